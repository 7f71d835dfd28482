"""What each tenant used in a day that is over, on record and told to the billing webhook: once, by whichever worker comes first."""

from nexusrag.billing.ledger import facade as ledger
from nexusrag.billing.webhooks import facade as webhooks
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel import money
from nexusrag.kernel.events import EventType
from nexusrag.security.audit import facade as audit

_BATCH = 200


async def record_usage(resources: Resources) -> None:
    """Each UTC day of each tenant that used something, as soon as none of its work is under way any more."""
    database = resources.get(Database)
    while True:
        async with database.work(None) as work:
            days = await ledger.unrecorded(work, _BATCH)
        for tenant_id, day in days:
            async with database.work(tenant_id) as work:
                used = await ledger.record_once(work, day)
                if used is None:
                    continue
                told = {
                    "period": "day",
                    "period_start": day.isoformat(),
                    "units": used.units,
                    "tokens": used.tokens,
                    "usd": money.text(used.usd),
                }
                await audit.write_system(work, EventType.BILLING_USAGE_RECORDED, told)
                await webhooks.tell(resources, work, EventType.BILLING_USAGE_RECORDED, told)
        if len(days) < _BATCH:
            return
