"""A ledger of a tenant of its own, and what its tables hold."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from nexusrag.billing.ledger.facade import Line, Reservation
from nexusrag.infra.database import Database
from nexusrag.kernel.ids import new_id
from tests.support.installation import Servers

NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)
SUMS = ("units", "held_units", "tokens", "held_tokens", "usd", "held_usd")


def line(usd: str = "0.25", component: Any = "llm", *, quantity: int = 100, estimated: bool = False) -> Line:
    return Line(component, "test", "model", "per_1k_tokens", Decimal(quantity), Decimal("2.5"), "price", Decimal(usd), estimated)


def reservation(subject: str, units: int = 3, tokens: int = 1000, usd: str = "1", lasts_s: int = 60) -> Reservation:
    return Reservation(
        subject=subject,
        route_class="run",
        units=units,
        tokens=tokens,
        usd=Decimal(usd),
        lasts=timedelta(seconds=lasts_s),
        user_id="somebody",
        credential_id="key",
    )


async def new_tenant(servers: Servers) -> str:
    tenant = new_id("t").replace("_", "-")
    admin = await servers.admin()
    try:
        await admin.execute("select tenant_ensure($1, $1)", tenant)
    finally:
        await admin.close()
    return tenant


@asynccontextmanager
async def opened(servers: Servers, size: int = 4) -> AsyncIterator[Database]:
    """A pool as a process has it."""
    database = Database(servers.settings.stores, pool_size=size)
    try:
        yield database
    finally:
        await database.close()


async def sums(servers: Servers, tenant: str) -> dict[tuple[str, Any], tuple[Any, ...]]:
    """What the counters say, by period and its first day; what is zero throughout is left out."""
    admin = await servers.admin()
    try:
        rows = await admin.fetch(f"select period, starts_on, {', '.join(SUMS)} from usage_periods where tenant_id = $1", tenant)
    finally:
        await admin.close()
    return {(row["period"], row["starts_on"]): tuple(row[name] for name in SUMS) for row in rows if any(row[name] for name in SUMS)}


async def entries(servers: Servers, tenant: str) -> dict[tuple[str, Any], tuple[Any, ...]]:
    """The same, added up from the entries; their dollars are those of their lines."""
    admin = await servers.admin()
    try:
        rows = await admin.fetch(
            "select l.*, coalesce((select sum(i.usd) from ledger_lines i where i.tenant_id = l.tenant_id and i.subject = l.subject), 0) "
            "as lines from ledger l where l.tenant_id = $1",
            tenant,
        )
    finally:
        await admin.close()
    found: dict[tuple[str, Any], list[Any]] = {}
    for row in rows:
        held = row["state"] == "held"
        assert row["usd"] == row["lines"], row["subject"]
        values = (
            0 if held else row["units"], row["units"] if held else 0, row["tokens"], row["held_tokens"] if held else 0,
            row["usd"], row["held_usd"] if held else Decimal(0),
        )  # fmt: skip
        for key in (("day", row["day"]), ("month", row["day"].replace(day=1))):
            found[key] = [old + new for old, new in zip(found.get(key, [0] * len(SUMS)), values, strict=True)]
    return {key: tuple(values) for key, values in found.items() if any(values)}
