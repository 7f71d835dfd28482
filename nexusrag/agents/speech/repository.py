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
    """The audio file of a run of the caller's own, or not found."""
    call.resource_id = audio_id
    row = await call.db.raw.fetchrow(
        "select a.id, a.blob_id, a.mime from audio_files a join runs r on r.tenant_id = a.tenant_id and r.id = a.run_id "
        "where a.tenant_id = $1 and a.id = $2 and r.user_id = $3", call.tenant_id, audio_id, call.principal.subject_id,
    )  # fmt: skip
    if row is None:
        raise not_found("audio file")
    return row
