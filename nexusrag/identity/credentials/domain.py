"""Manifest of credentials."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.identity.credentials.access_tokens import AccessTokens
from nexusrag.identity.credentials.cache import CredentialCache
from nexusrag.identity.credentials.stage import settle
from nexusrag.infra.changes import Changes
from nexusrag.infra.resources import Resources
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _cache(resources: Resources) -> AsyncIterator[None]:
    settings = resources.get(Settings)
    resources.put(CredentialCache, CredentialCache(resources.get(Changes), settings.auth.auth_cache_ttl_s))
    resources.put(AccessTokens, AccessTokens(settings.identity))
    try:
        yield
    finally:
        await settle()


domain = Domain(name="credentials", wing="identity", opens=(_cache,))
