"""Charging what is no run: at once, or reserved before by a job; and metering that never fails what it measures."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic

import asyncpg
import structlog

from nexusrag.billing.costs.metering import Metered, priced, total
from nexusrag.billing.costs.service.spending import FEATURES, budget_of, prices_of
from nexusrag.billing.costs.terms import TermsCache
from nexusrag.billing.ledger.facade import Caps, Reservation, charge, reserve, settle
from nexusrag.billing.plans.facade import held_by
from nexusrag.infra.database import Database, Work
from nexusrag.infra.resources import Resources
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.events import EventType
from nexusrag.security.audit import facade as audit
from nexusrag.settings import Settings

log = structlog.get_logger(__name__)
# Longer than this nobody waits for a row of the ledger that somebody else holds.
PATIENCE = {"lock_timeout": "500"}
WINDOW = timedelta(minutes=5)
# A job that fails is tried again within this time. What expires nevertheless is put right when the job ends.
_JOB_LASTS = timedelta(hours=1)


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


def is_known_free(resources: Resources, tenant_id: str, metered: Sequence[Metered]) -> bool:
    """Whether this costs nothing, as far as this process knows without asking: then there is nothing to `hold`."""
    terms = resources.get(TermsCache).known(tenant_id)
    return terms is not None and not total(priced(terms.prices, metered, clock.now()))


async def hold(
    resources: Resources, work: Work, subject: str, route_class: str, metered: Sequence[Metered], *, user_id: str | None = None
) -> bool:
    """Reserve what a job is about to use. False: a budget that blocks has less left than it costs, and nothing was taken.

    What costs nothing needs no reservation. A job that is run again keeps the one that it has. `settle_held` or the ledger's `settle`
    must follow. Last in its transaction, as all that locks the rows of the ledger.
    """
    usd = total(priced(await prices_of(resources, work), metered, clock.now()))
    if not usd:
        return True
    cap = (await budget_of(resources, work)).cap
    if cap is not None:
        plan = await held_by(work, resources.get(Settings))
        cap = cap if FEATURES & {one.feature for one in plan.entitlements if one.enabled} else None
    asked = Reservation(
        subject=subject, route_class=route_class, units=0, tokens=0, usd=usd, lasts=_JOB_LASTS, user_id=user_id, credential_id=None
    )  # fmt: skip
    return (await reserve(work, asked, Caps(month_usd=cap))).state != "refused"


async def settle_held(
    resources: Resources, work: Work, subject: str, route_class: str, metered: Sequence[Metered], *, user_id: str | None = None
) -> bool:
    """Charge what a job used, for which `hold` was asked before. False when it was charged before."""
    lines = priced(await prices_of(resources, work), metered, clock.now())
    if await settle(work, subject, lines, tokens=0, estimated=any(line.estimated for line in lines)):
        return True
    return await charge(work, subject, route_class, lines, user_id=user_id)  # it had nothing to reserve


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
