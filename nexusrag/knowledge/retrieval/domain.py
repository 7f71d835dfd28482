"""Manifest of retrieval."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.infra.resources import Resources
from nexusrag.knowledge.retrieval import routes
from nexusrag.knowledge.retrieval.spaces import Spaces
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _spaces(resources: Resources) -> AsyncIterator[None]:
    resources.put(Spaces, Spaces())
    yield


domain = Domain(name="retrieval", wing="knowledge", routers=(routes.router,), opens=(_spaces,))
