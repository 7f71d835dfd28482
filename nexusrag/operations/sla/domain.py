"""Manifest of service levels."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.infra.turns import Turns
from nexusrag.kernel.actions import Resource
from nexusrag.operations.sla import evaluate, routes, service
from nexusrag.operations.sla.decisions import Decisions
from nexusrag.operations.sla.keeper import Keeper
from nexusrag.operations.sla.measure import Measurer
from nexusrag.operations.sla.overload import Overload
from nexusrag.settings import Settings
from nexusrag.web.domain import Cron, Domain


@asynccontextmanager
async def _kept(resources: Resources) -> AsyncIterator[None]:
    settings, database = resources.get(Settings), resources.get(Database)
    measurer = resources.put(Measurer, Measurer(database, settings.sla.sla_measurement_window_seconds))
    decisions = resources.put(Decisions, Decisions(resources.get(Changes), database, settings))
    keeper = resources.put(Keeper, Keeper(database, measurer, decisions, settings.sla.sla_flush_interval_s))
    overload = resources.put(Overload, Overload(settings.sla, database.pool.least_wait_s))
    resources.put(Turns, overload.turns)
    keeper.start()
    overload.start()
    try:
        yield
    finally:
        await overload.close()
        await keeper.close()


domain = Domain(
    name="sla",
    wing="operations",
    routers=(routes.admin, routes.ops),
    loaders={Resource.SLA_POLICY: service.load_policy, Resource.SLA_INCIDENT: service.load_incident},
    crons=(
        Cron(name="judge service levels", every_s=2, run=evaluate.evaluate),
        Cron(name="prune measurements", every_s=300, run=evaluate.prune, can_wait=True),
    ),
    opens=(_kept,),
)
