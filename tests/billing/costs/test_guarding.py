"""The guard of money holds however many ask at once, and storage is charged once a day."""

import asyncio
from datetime import timedelta
from decimal import Decimal

from nexusrag.billing.costs import jobs
from nexusrag.billing.costs.facade import budget_of
from nexusrag.billing.ledger.entries import Caps
from nexusrag.billing.ledger.facade import Reservation, Verdict, reserve
from nexusrag.infra.database import Database
from nexusrag.kernel import clock
from nexusrag.kernel.ids import new_id
from tests.billing.costs.support import add_price, line, set_budget, spend
from tests.support.api import Api
from tests.support.behind import audited, rows

TEXT = "The lighthouse keeper is called Ada Moreau."


async def test_a_hundred_reservations_at_one_dollar_left_take_no_more_than_that(api: Api) -> None:
    admin = await api.person()
    await set_budget(admin, monthly_budget_usd=10, enforce_hard_cap=True, hard_cap_mode="block")
    await spend(api, admin, line("9"))

    async def one() -> Verdict:
        async with api.resources.get(Database).work(admin.tenant) as work:
            cap = (await budget_of(api.resources, work)).cap
            asked = Reservation(
                subject=new_id("run"), route_class="run", units=3, tokens=10, usd=Decimal("0.03"), lasts=timedelta(minutes=1),
                user_id=admin.user_id, credential_id=admin.key_id,
            )  # fmt: skip
            return await reserve(work, asked, Caps(month_usd=cap))

    verdicts = await asyncio.gather(*(one() for _ in range(100)))
    assert [verdict.state for verdict in verdicts].count("held") == 33
    assert {verdict.cause for verdict in verdicts if verdict.state == "refused"} == {"usd"}
    (month,) = await rows(api, "select usd, held_usd from usage_periods where tenant_id = $1 and period = 'month'", admin.tenant)
    assert month["usd"] + month["held_usd"] == Decimal("9.99")


async def test_runs_at_once_never_overrun_a_budget_that_blocks(api: Api) -> None:
    admin = await api.person()
    corpus = await admin.corpus()
    await admin.text(corpus, TEXT)
    await add_price(admin, provider="extractive", component="llm", rate_value_usd=1)
    await set_budget(admin, monthly_budget_usd=40, enforce_hard_cap=True)
    body = {"corpus_id": corpus, "message": "Who is the keeper?"}
    answers = await asyncio.gather(*(admin.post("/v1/run", json={**body, "session_id": new_id("s")}) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200, 402}
    (month,) = await rows(api, "select usd, held_usd from usage_periods where tenant_id = $1 and period = 'month'", admin.tenant)
    assert 0 < month["usd"] + month["held_usd"] <= 40
    assert len(await audited(api, admin.tenant, "cost.cap.triggered")) == 1


async def test_keeping_documents_is_charged_once_a_day(api: Api) -> None:
    admin = await api.person()
    await add_price(admin, provider="internal", component="storage", rate_type="per_mb", rate_value_usd=100)
    await admin.text(await admin.corpus(), TEXT)
    (held,) = await rows(api, "select sum(size_bytes) as bytes from documents where tenant_id = $1", admin.tenant)
    await asyncio.gather(*(jobs.charge_storage(api.resources) for _ in range(3)))
    lines = await rows(
        api, "select subject, quantity, usd, estimated from ledger_lines where tenant_id = $1 and component = 'storage'", admin.tenant
    )
    (kept,) = lines
    assert kept["subject"] == f"storage:{clock.now():%Y-%m-%d}"
    assert (kept["quantity"], kept["usd"], kept["estimated"]) == (held["bytes"], held["bytes"] * Decimal(100) / 1_000_000, False)
    assert len(await audited(api, admin.tenant, "cost.event.recorded")) == 1
