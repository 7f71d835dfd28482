"""Manifest of policies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.access.policies import models, routes, service
from nexusrag.access.policies.cache import Policies
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Resource
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _cache(resources: Resources) -> AsyncIterator[None]:
    resources.put(Policies, Policies(resources.get(Changes), resources.get(Database), resources.get(Settings)))
    yield


domain = Domain(
    name="policies",
    wing="access",
    routers=(routes.router,),
    models=(models.StoredPolicy,),
    loaders={Resource.POLICY: service.load},
    opens=(_cache,),
)
