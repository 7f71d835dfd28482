"""HTTP face of speech: /v1/audio."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse

from nexusrag.agents.speech import gates
from nexusrag.security.crypto.facade import BlobStore
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

router = Router("audio", tag="Speech")


@router.get("/{audio_id}.mp3", gate=gates.READ, media_type="audio/mpeg")
async def get_audio(call: Call, audio: Loaded[Any]) -> Response:
    """The spoken answer of a run of the caller's tenant."""
    await call.end_work()  # nothing holds a connection while a file is read
    chunks = call.of(BlobStore).read(call.tenant_id, audio["blob_id"])
    first = await anext(chunks, b"")  # a file that is gone or damaged is an error, not a broken stream
    return StreamingResponse(_whole(first, chunks), media_type=audio["mime"], headers={"Cache-Control": "private, max-age=3600"})


async def _whole(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
