"""Manifest of billing webhooks."""

from nexusrag.billing.webhooks import jobs, routes
from nexusrag.infra.jobs import JobHandler
from nexusrag.kernel.switches import Switch
from nexusrag.web.domain import Domain

domain = Domain(
    name="webhooks",
    wing="billing",
    routers=(routes.router,),
    jobs=(JobHandler(kind=jobs.KIND, run=jobs.send, dead=jobs.give_up, switch=Switch.NOTIFICATIONS),),
)
