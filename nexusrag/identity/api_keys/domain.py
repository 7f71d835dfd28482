"""Manifest of API keys."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.identity.api_keys import models
from nexusrag.identity.api_keys.stage import KeyCache, settle
from nexusrag.infra.changes import Changes
from nexusrag.infra.resources import Resources
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _cache(resources: Resources) -> AsyncIterator[None]:
    resources.put(KeyCache, KeyCache(resources.get(Changes), resources.get(Settings).auth.auth_cache_ttl_s))
    try:
        yield
    finally:
        await settle()


domain = Domain(name="api_keys", wing="identity", models=(models.User, models.ApiKey), opens=(_cache,))
