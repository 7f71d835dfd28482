"""Manifest of speech."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.agents.speech import repository, routes
from nexusrag.agents.speech.service import Speaker
from nexusrag.infra.outbound import Outbound
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Resource
from nexusrag.providers.speech.factory import open_speech
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _speaker(resources: Resources) -> AsyncIterator[None]:
    speech = open_speech(resources.get(Settings), resources.get(Outbound))
    resources.put(Speaker, Speaker(resources, speech))
    try:
        yield
    finally:
        await speech.close()


domain = Domain(name="speech", wing="agents", routers=(routes.router,), loaders={Resource.AUDIO: repository.load}, opens=(_speaker,))
