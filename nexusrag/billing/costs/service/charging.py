"""Charging at once what has no reservation, and metering that never fails what it measures."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic

import asyncpg
import structlog

from nexusrag.billing.costs.metering import Metered, priced
from nexusrag.billing.costs.service.spending import prices_of
from nexusrag.billing.ledger.facade import charge
from nexusrag.infra.database import Database, Work
from nexusrag.infra.resources import Resources
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.events import EventType
from nexusrag.security.audit import facade as audit

log = structlog.get_logger(__name__)
# Longer than this nobody waits for a row of the ledger that somebody else holds.
PATIENCE = {"lock_timeout": "500"}
WINDOW = timedelta(minutes=5)


class Degraded:
    """When each tenant's metering last failed and was put on record by this process."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def first(self, tenant_id: str) -> bool:
        """Whether nothing was put on record for the tenant within the last window."""
        now = monotonic()
        self._last = {key: at for key, at in self._last.items() if at > now - WINDOW.total_seconds()}
        if tenant_id in self._last:
            return False
        self._last[tenant_id] = now
        return True


async def charge_now(
    resources: Resources,
    work: Work,
    subject: str,
    route_class: str,
    metered: Sequence[Metered],
    *,
    user_id: str | None = None,
    credential_id: str | None = None,
) -> bool:
    """Price and charge what was used, once for each subject. False when it was charged before.

    What costs nothing by the platform's own prices, because it ran within the installation, is charged all the same: it was used.
    """
    now = clock.now()
    lines = priced(await prices_of(resources, work), metered, now)
    return await charge(work, subject, route_class, lines, user_id=user_id, credential_id=credential_id, at=now)


async def is_free(resources: Resources, work: Work, metered: Sequence[Metered]) -> bool:
    """Whether all of it ran within the installation and nobody has set a price: hot paths then write nothing."""
    now = clock.now()
    prices = await prices_of(resources, work)
    return all(line.usd == 0 and (line.price_id or "").startswith("builtin:") for line in priced(prices, metered, now))


@asynccontextmanager
async def best_effort(resources: Resources, tenant_id: str) -> AsyncIterator[None]:
    """Swallow what goes wrong within: metering never fails a request. Once in each window it goes on record.

    Stand outside every transaction of the request: the record needs one of its own.
    """
    try:
        yield
    except (ApiError, asyncpg.PostgresError) as error:
        log.warning("costs.metering_degraded", error=type(error).__name__)
        if not resources.get(Degraded).first(tenant_id):
            return
        try:
            async with resources.get(Database).work(tenant_id) as work:
                await audit.write_system(work, EventType.COST_METERING_DEGRADED, {"error": type(error).__name__})
        except (ApiError, asyncpg.PostgresError) as failure:
            log.error("costs.degraded_unwritten", error=type(failure).__name__)
