"""Tenants with prices, budgets and spending, made the short way."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from nexusrag.billing.costs.facade import Metered, priced, prices_of
from nexusrag.billing.ledger.facade import Line, charge
from nexusrag.infra.database import Database
from nexusrag.kernel import clock
from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person

CATALOG = "/v1/admin/costs/pricing/catalog"
BUDGET = "/v1/admin/costs/budget"
REPORTS = "/v1/admin/costs/chargeback/reports"
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


def price(**changes: Any) -> dict[str, Any]:
    """The body of a price that is in force since long."""
    return {
        "version": "v1", "provider": "openai", "component": "llm", "rate_type": "per_1k_tokens", "rate_value_usd": 0.5,
        "effective_from": "2026-01-01T00:00:00Z", **changes,
    }  # fmt: skip


async def add_price(person: Person, **changes: Any) -> Any:
    answer = await person.post(CATALOG, json=price(**changes))
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


async def set_budget(person: Person, **fields: Any) -> Any:
    answer = await person.patch(BUDGET, json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def line(usd: str, component: str = "llm", provider: str = "openai", **changes: Any) -> Line:
    """A line as the ledger keeps it."""
    fields = {
        "component": component, "provider": provider, "model": "m", "rate_type": "per_1k_tokens", "quantity": Decimal(1),
        "rate_usd": Decimal(usd), "price_id": "p", "usd": Decimal(usd), "estimated": False, **changes,
    }  # fmt: skip
    return Line(**fields)


async def spend(api: Api, person: Person, *lines: Line, at: datetime | None = None, route_class: str = "run", **who: Any) -> str:
    """Charge the person's tenant; the subject."""
    subject = new_id("subject")
    by = {"user_id": person.user_id, "credential_id": person.key_id, **who}
    async with api.resources.get(Database).work(person.tenant) as work:
        assert await charge(work, subject, route_class, lines, at=at or clock.now(), **by)
    return subject


async def lines_for(api: Api, person: Person, *used: Metered, at: datetime | None = None) -> list[Line]:
    """What use costs the person's tenant."""
    async with api.resources.get(Database).work(person.tenant) as work:
        return priced(await prices_of(api.resources, work), used, at or clock.now())
