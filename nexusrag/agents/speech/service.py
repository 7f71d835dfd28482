"""Use cases of speech."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from nexusrag.agents.speech import repository
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.ids import unguessable_id
from nexusrag.providers.speech.port import Speech, Unheard
from nexusrag.security.crypto.facade import BlobStore
from nexusrag.settings import Settings


@dataclass(slots=True)
class Spoken:
    """What one run has had spoken: `characters` as the provider was sent them, `heard` when it has answered."""

    characters: int = 0
    heard: bool = False


class Speaker:
    """Speaks an answer and keeps the file. Failing to speak never fails a run."""

    def __init__(self, resources: Resources, speech: Speech) -> None:
        self._resources = resources
        self._speech = speech

    def said(self, text: str) -> str:
        """What of an answer the provider is sent."""
        return self._speech.said(text)

    async def speak(self, tenant_id: str, run_id: str, text: str, spoken: Spoken) -> tuple[str, dict[str, Any]]:
        """The event to send: audio.ready with the file's URL, or audio.error with a code.

        `spoken` counts from the moment the provider is asked, however this ends, unless the provider refuses or the call breaks off.
        """
        audio_id = unguessable_id("audio")
        blobs, database = self._resources.get(BlobStore), self._resources.get(Database)
        try:
            sound = await self._ask(tenant_id, text, spoken)
            async with database.work(tenant_id) as work:
                reserved = await blobs.reserve(work)
            await blobs.put(reserved, _one(sound))
            async with database.work(tenant_id) as work:
                await blobs.keep(work, reserved)
                await repository.insert(work, audio_id, run_id, reserved.blob_id, self._speech.mime)
        except ApiError as error:
            return "audio.error", {"code": error.code.value, "message": error.message}
        base = self._resources.get(Settings).speech.audio_base_url.rstrip("/").removesuffix("/v1")
        return "audio.ready", {"audio_url": f"{base}/v1/audio/{audio_id}.mp3", "audio_id": audio_id, "mime": self._speech.mime}

    async def _ask(self, tenant_id: str, text: str, spoken: Spoken) -> bytes:
        spoken.characters = len(self.said(text))
        try:
            sound = await self._speech.speak(text, tenant_id=tenant_id)
        except Unheard:
            raise
        except ApiError:
            spoken.characters = 0
            raise
        spoken.heard = True
        return sound


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
