"""Manifest of maintenance."""

from nexusrag.operations.maintenance import routes, work
from nexusrag.web.domain import Cron, Domain

domain = Domain(
    name="maintenance",
    wing="operations",
    routers=(routes.maintenance, routes.retention),
    crons=(Cron(name="daily maintenance", every_s=300, run=work.daily, can_wait=True),),
)
