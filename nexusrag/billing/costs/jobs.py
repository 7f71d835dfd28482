"""What is charged without a request: keeping documents, once a day for each tenant."""

from nexusrag.billing.costs import repository
from nexusrag.billing.costs.metering import Metered
from nexusrag.billing.costs.service.charging import charge_now
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel import clock
from nexusrag.kernel.events import EventType
from nexusrag.kernel.traffic import RouteClass
from nexusrag.security.audit import facade as audit
from nexusrag.settings import Settings

_BATCH = 200


async def charge_storage(resources: Resources) -> None:
    """Charge every tenant for the bytes that it keeps today (UTC), each once however often and wherever this runs."""
    if not resources.get(Settings).costs.cost_governance_enabled:
        return
    database = resources.get(Database)
    subject = f"storage:{clock.now():%Y-%m-%d}"
    while True:
        async with database.work(None) as work:
            keeping = await repository.stored(work, subject, _BATCH)
        for tenant_id, stored_bytes in keeping:
            async with database.work(tenant_id) as work:
                kept = Metered(component="storage", provider="installation", stored_bytes=stored_bytes)
                if await charge_now(resources, work, subject, RouteClass.MUTATION, [kept]):
                    await audit.write_system(work, EventType.COST_EVENT_RECORDED, {"subject": subject, "stored_bytes": stored_bytes})
        if len(keeping) < _BATCH:
            return
