"""All SQL of speech."""

from typing import Any

from nexusrag.infra.database import Work
from nexusrag.kernel.errors import not_found
from nexusrag.web.call import CallContext


async def insert(work: Work, audio_id: str, run_id: str, blob_id: str, mime: str) -> None:
    await work.raw.execute(
        "insert into audio_files (tenant_id, id, run_id, blob_id, mime) values ($1, $2, $3, $4, $5)",
        work.tenant_id,
        audio_id,
        run_id,
        blob_id,
        mime,
    )


async def load(call: CallContext, audio_id: str) -> Any:
    """The tenant's audio file, or not found."""
    call.resource_id = audio_id
    row = await call.db.raw.fetchrow("select id, blob_id, mime from audio_files where tenant_id = $1 and id = $2", call.tenant_id, audio_id)
    if row is None:
        raise not_found("audio file")
    return row
