"""Settles what was reserved and then forgotten: whoever did the work is gone and nobody knows better, so it costs what was reserved."""

from decimal import Decimal

import structlog

from nexusrag.billing.ledger import repository
from nexusrag.billing.ledger.entries import Line
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources

log = structlog.get_logger(__name__)
_BATCH = 100


async def settle_expired(resources: Resources) -> int:
    """Returns how many were settled. What is learnt of them later replaces this."""
    database = resources.get(Database)
    async with database.work(None) as work:
        rows = await repository.expired(work, _BATCH)
    settled = 0
    for row in rows:
        line = Line("llm", "reserved", None, "per_1k_tokens", Decimal(row["held_tokens"]), None, None, row["held_usd"], True)
        async with database.work(row["tenant_id"]) as work:
            # Somebody may have settled it meanwhile: then this does nothing.
            settled += await repository.settle(work, row["subject"], [line], tokens=row["held_tokens"], estimated=True, expired=True)
        log.warning("ledger.expired", tenant=row["tenant_id"], subject=row["subject"])
    return settled


async def expire(resources: Resources) -> None:
    """As a periodic task."""
    await settle_expired(resources)
