"""What operators set for each tenant, kept while changes are being heard, so that a request finds its quota without a statement."""

from collections import OrderedDict
from datetime import date
from time import monotonic

from nexusrag.billing.ledger.facade import PeriodName
from nexusrag.billing.quotas import repository
from nexusrag.billing.quotas.limits import Override, Quota, resolve
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database, Work
from nexusrag.infra.resources import Resources
from nexusrag.kernel.principal import Principal

# Announced for the tenant whose limits changed.
CHANGED = "quota"
_MAX_TENANTS = 10_000
_LONGEST_S = 60.0


class Quotas:
    """The overrides of each tenant, and which soft caps and overages this process knows to have been told."""

    def __init__(self, changes: Changes, database: Database) -> None:
        self._changes = changes
        self._database = database
        self._held: OrderedDict[str, tuple[Override, float]] = OrderedDict()
        self._told: OrderedDict[tuple[str, str, PeriodName, date], None] = OrderedDict()
        self._generation = 0
        changes.on(CHANGED, self._drop, dropped=self._clear)

    async def of(self, principal: Principal, work: Work | None = None) -> Quota:
        """The quota in force. `work`: the transaction that is open, if one is. Raises SERVICE_UNAVAILABLE when it cannot be read."""
        tenant_id = principal.tenant_id
        held = self._held.get(tenant_id)
        if held is None or held[1] < monotonic():
            generation = self._generation
            if work is not None:
                override = await repository.find(work)
            else:
                async with self._database.work(tenant_id) as own:
                    override = await repository.find(own)
            held = override, monotonic() + _LONGEST_S
            # What was read before a change must not be kept after it.
            if self._changes.live and generation == self._generation:
                self._held[tenant_id] = held
                if len(self._held) > _MAX_TENANTS:
                    self._held.popitem(last=False)
        return resolve(principal.plan, principal.features, held[0])

    def was_told(self, tenant_id: str, what: str, period: PeriodName, starts_on: date) -> bool:
        return (tenant_id, what, period, starts_on) in self._told

    def tell(self, tenant_id: str, what: str, period: PeriodName, starts_on: date) -> None:
        self._told[tenant_id, what, period, starts_on] = None
        if len(self._told) > _MAX_TENANTS:
            self._told.popitem(last=False)

    def _drop(self, tenant_id: str) -> None:
        self._generation += 1
        self._held.pop(tenant_id, None)

    def _clear(self) -> None:
        self._generation += 1
        self._held.clear()


async def quota_of(resources: Resources, principal: Principal, work: Work | None = None) -> Quota:
    """The quota in force of the caller's tenant."""
    return await resources.get(Quotas).of(principal, work)
