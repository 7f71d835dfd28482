"""What operators set for each tenant, kept while changes are being heard, so that a request finds its quota without a statement."""

from collections import OrderedDict
from datetime import date

from nexusrag.billing.ledger.facade import PeriodName
from nexusrag.billing.quotas import repository
from nexusrag.billing.quotas.limits import Override, Quota, resolve
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database, Work
from nexusrag.infra.kept import Kept
from nexusrag.infra.resources import Resources
from nexusrag.kernel.principal import Principal

# Announced for the tenant whose limits changed.
CHANGED = "quota"
_MAX_TENANTS = 10_000
_LONGEST_S = 60.0


class Quotas:
    """The overrides of each tenant, and which soft caps and overages this process knows to have been told."""

    def __init__(self, changes: Changes, database: Database) -> None:
        self._database = database
        self._held: Kept[str, Override] = Kept(changes, ttl_s=_LONGEST_S, most=_MAX_TENANTS)
        self._told: OrderedDict[tuple[str, str, PeriodName, date], None] = OrderedDict()
        changes.on(CHANGED, self._held.drop, dropped=self._held.clear)

    async def of(self, principal: Principal, work: Work | None = None) -> Quota:
        """The quota in force. `work`: the transaction that is open, if one is. Raises SERVICE_UNAVAILABLE when it cannot be read."""
        tenant_id = principal.tenant_id
        override = self._held.get(tenant_id)
        if override is None:
            generation = self._held.generation
            if work is not None:
                override = await repository.find(work)
            else:
                async with self._database.work(tenant_id, reads=True) as own:
                    override = await repository.find(own)
            self._held.put(tenant_id, override, generation)
        return resolve(principal.plan, principal.features, override)

    def was_told(self, tenant_id: str, what: str, period: PeriodName, starts_on: date) -> bool:
        return (tenant_id, what, period, starts_on) in self._told

    def tell(self, tenant_id: str, what: str, period: PeriodName, starts_on: date) -> None:
        self._told[tenant_id, what, period, starts_on] = None
        if len(self._told) > _MAX_TENANTS:
            self._told.popitem(last=False)


async def quota_of(resources: Resources, principal: Principal, work: Work | None = None) -> Quota:
    """The quota in force of the caller's tenant."""
    return await resources.get(Quotas).of(principal, work)
