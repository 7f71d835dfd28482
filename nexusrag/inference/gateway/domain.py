"""Manifest of the gateway."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.inference.gateway.service import Gateway
from nexusrag.inference.slots.facade import ModelSlots
from nexusrag.infra.outbound import Outbound
from nexusrag.infra.resources import Resources
from nexusrag.providers.embeddings.port import Embedder
from nexusrag.providers.llm.factory import open_language_model
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _gateway(resources: Resources) -> AsyncIterator[None]:
    settings = resources.get(Settings)
    embedder = resources.get(Embedder)
    model = open_language_model(settings, resources.get(Outbound), embedder)
    resources.put(Gateway, Gateway(model, settings, resources.get(ModelSlots)))
    try:
        yield
    finally:
        await model.close()


domain = Domain(name="gateway", wing="inference", opens=(_gateway,))
