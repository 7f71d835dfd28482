"""Manifest of quotas."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.billing.quotas import routes
from nexusrag.billing.quotas.cache import Quotas
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _cache(resources: Resources) -> AsyncIterator[None]:
    resources.put(Quotas, Quotas(resources.get(Changes), resources.get(Database)))
    yield


domain = Domain(name="quotas", wing="billing", routers=(routes.router,), opens=(_cache,))
