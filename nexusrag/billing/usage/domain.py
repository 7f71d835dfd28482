"""Manifest of usage."""

from nexusrag.billing.usage import jobs, routes
from nexusrag.web.domain import Cron, Domain

domain = Domain(
    name="usage",
    wing="billing",
    routers=(routes.admin, routes.self_serve, routes.own_plan),
    crons=(Cron(name="record usage", every_s=3600, run=jobs.record_usage, can_wait=True),),
)
