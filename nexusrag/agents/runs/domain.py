"""Manifest of runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.agents.runs import reaper, repository, routes
from nexusrag.agents.runs.registry import RunRegistry
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Resource
from nexusrag.web.domain import Cron, Domain


@asynccontextmanager
async def _registry(resources: Resources) -> AsyncIterator[None]:
    # Also here, not only by the workers' cron: an installation may have slept for weeks.
    await reaper.roll_partitions(resources)
    registry = resources.put(RunRegistry, RunRegistry(resources))
    registry.start()
    try:
        yield
    finally:
        await registry.close()


domain = Domain(
    name="runs",
    wing="agents",
    routers=(routes.run_router, routes.runs_router),
    loaders={Resource.RUN: repository.load},
    crons=(
        Cron(name="close abandoned runs", every_s=2, run=reaper.close_abandoned),
        Cron(name="roll partitions", every_s=3600, run=reaper.roll_partitions),
    ),
    opens=(_registry,),
)
