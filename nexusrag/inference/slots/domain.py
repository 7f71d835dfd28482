"""Manifest of model slots."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.inference.slots import routes
from nexusrag.inference.slots.slots import ModelSlots
from nexusrag.infra.redis import Redis
from nexusrag.infra.resources import Resources
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _slots(resources: Resources) -> AsyncIterator[None]:
    slots = resources.put(ModelSlots, ModelSlots(resources.get(Settings), resources.get(Redis)))
    try:
        yield
    finally:
        await slots.close()


domain = Domain(name="slots", wing="inference", routers=(routes.router,), opens=(_slots,))
