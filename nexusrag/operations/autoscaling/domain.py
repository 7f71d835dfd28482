"""Manifest of autoscaling."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Resource
from nexusrag.operations.autoscaling import routes, service
from nexusrag.operations.autoscaling.executors import Executor, executor_of
from nexusrag.settings import Settings
from nexusrag.web.domain import Cron, Domain


@asynccontextmanager
async def _executor(resources: Resources) -> AsyncIterator[None]:
    resources.put(Executor, executor_of(resources.get(Settings).autoscaling))
    yield


domain = Domain(
    name="autoscaling",
    wing="operations",
    routers=(routes.router,),
    loaders={Resource.AUTOSCALING_PROFILE: service.load},
    crons=(Cron(name="evaluate autoscaling", every_s=2, run=service.in_background),),
    opens=(_executor,),
)
