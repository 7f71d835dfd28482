"""Manifest of runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.agents.runs import reaper, reconcile, repository, routes, service
from nexusrag.agents.runs.journal import Journal
from nexusrag.agents.runs.registry import RunRegistry
from nexusrag.agents.runs.revocation import Revocations
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Action, Resource
from nexusrag.web.domain import Cron, Domain


@asynccontextmanager
async def _registry(resources: Resources) -> AsyncIterator[None]:
    registry = resources.put(RunRegistry, RunRegistry(resources))
    await registry.roll()  # an installation may have slept for weeks
    revocations = resources.put(Revocations, Revocations(resources))
    journal = resources.put(Journal, Journal(resources))
    journal.start()
    registry.start()
    try:
        yield
    finally:
        await registry.close()
        await journal.close()
        await revocations.close()


async def _drain(resources: Resources) -> None:
    await resources.get(RunRegistry).drain()


domain = Domain(
    name="runs",
    wing="agents",
    routers=(routes.run_router, routes.runs_router),
    loaders={Resource.RUN: repository.load},
    describes={Resource.RUN: service.describe_run, Action.RUNS_CREATE: service.describe_asked},
    crons=(
        Cron(name="close abandoned runs", every_s=2, run=reaper.close_abandoned),
        Cron(name="ask what runs took", every_s=3, run=reconcile.correct_estimates),
    ),
    opens=(_registry,),
    drains=(_drain,),
)
