"""Use cases of speech."""

from collections.abc import AsyncIterator
from typing import Any

from nexusrag.agents.speech import repository
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.ids import unguessable_id
from nexusrag.providers.speech.port import Speech
from nexusrag.security.crypto.facade import BlobStore
from nexusrag.settings import Settings


class Speaker:
    """Speaks an answer and keeps the file. Failing to speak never fails a run."""

    def __init__(self, resources: Resources, speech: Speech) -> None:
        self._resources = resources
        self._speech = speech

    async def speak(self, tenant_id: str, run_id: str, text: str) -> tuple[str, dict[str, Any]]:
        """The event to send: audio.ready with the file's URL, or audio.error with a code."""
        audio_id = unguessable_id("audio")
        blobs, database = self._resources.get(BlobStore), self._resources.get(Database)
        try:
            spoken = await self._speech.speak(text, tenant_id=tenant_id)
            async with database.work(tenant_id) as work:
                reserved = await blobs.reserve(work)
            await blobs.put(reserved, _one(spoken))
            async with database.work(tenant_id) as work:
                await blobs.keep(work, reserved)
                await repository.insert(work, audio_id, run_id, reserved.blob_id, self._speech.mime)
        except ApiError as error:
            return "audio.error", {"code": error.code.value, "message": error.message}
        base = self._resources.get(Settings).speech.audio_base_url.rstrip("/").removesuffix("/v1")
        return "audio.ready", {"audio_url": f"{base}/v1/audio/{audio_id}.mp3", "audio_id": audio_id, "mime": self._speech.mime}


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
