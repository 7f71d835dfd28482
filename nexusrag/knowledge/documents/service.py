"""Use cases of documents: accept, list, reindex, delete."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from nexusrag.access.permissions.facade import grant_owner
from nexusrag.infra.database import Database
from nexusrag.infra.jobs import Handlers, enqueue, execute_leased, take
from nexusrag.infra.redis import Redis
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Permission, Resource
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.ids import new_id
from nexusrag.knowledge.corpora.facade import CorpusView, keep_open
from nexusrag.knowledge.documents import repository
from nexusrag.knowledge.documents.models import Document
from nexusrag.knowledge.documents.schemas import DocumentAccepted, DocumentOut, Reindex
from nexusrag.knowledge.index import facade as index
from nexusrag.security.crypto.facade import BlobStore
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.cursors import Cursors
from nexusrag.web.envelope import Listed, Page

INGEST = "document.ingest"
_MANY_CHUNKS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """What was sent, before it is accepted. `chunks` yields the bytes once."""

    filename: str
    content_type: str
    ingest_source: str
    chunks: AsyncIterator[bytes]
    document_id: str | None = None
    overwrite: bool = False
    metadata: dict[str, Any] | None = None
    chunk_size_chars: int | None = None
    chunk_overlap_chars: int | None = None


async def accept(call: CallContext, corpus: CorpusView, incoming: Incoming) -> DocumentAccepted:
    """Store the bytes, write the document down and enqueue its ingestion, all or nothing.

    Raises INGEST_VALIDATION_ERROR for an empty file, PAYLOAD_TOO_LARGE, INGEST_IN_PROGRESS while the same document is in
    flight, CONFLICT for a taken id with other content and no `overwrite`.
    """
    blobs = call.of(BlobStore)
    await _existing(call, corpus, incoming)  # asked twice: what will be refused is not stored, and no lock waits for the store
    reserved = await blobs.reserve(call.db)
    async with call.outside_work():
        stored = await blobs.put(reserved, incoming.chunks, call.of(Settings).web.max_upload_bytes)
        call.on_failure(lambda: blobs.take_back(call.of(Database), reserved))
    if stored.size == 0:
        raise ApiError(ErrorCode.INGEST_VALIDATION_ERROR, "The document is empty.")
    if await keep_open(call.db, corpus.id) != corpus.key:
        raise not_found("corpus")
    existing = await _existing(call, corpus, incoming)
    if existing is not None and not incoming.overwrite:
        if existing.sha256 != stored.sha256:
            raise ApiError(ErrorCode.CONFLICT, "A document with this id and other content exists; send overwrite=true to replace it.")
        call.unchanged = True
        call.after_commit(lambda: blobs.take_back(call.of(Database), reserved))
        return accepted(existing, existing.last_job_id)
    await blobs.keep(call.db, reserved)
    document = existing or Document(
        tenant_id=call.tenant_id, id=incoming.document_id or new_id("doc"), created_by=call.principal.subject_id
    )
    former = repository.source_of(existing) if existing is not None else None
    document.corpus_id, document.corpus_key = corpus.id, corpus.key
    document.filename, document.content_type = incoming.filename, incoming.content_type
    document.source = document.ingest_source = incoming.ingest_source
    document.labels = incoming.metadata or {}
    document.size_bytes, document.sha256, document.blob_id = stored.size, stored.sha256, reserved.blob_id
    job_id = await _queue(call, document, incoming.chunk_size_chars, incoming.chunk_overlap_chars, former=former)
    if existing is None:
        await grant_owner(call.db, document.id, call.principal)
    call.record(document_id=document.id, corpus_id=corpus.id, size_bytes=stored.size, overwrite=existing is not None)
    call.about(Resource.DOCUMENT, document.id)
    return accepted(document, job_id)


async def reindex(call: CallContext, document: Document, body: Reindex) -> DocumentAccepted:
    """Index the stored source anew; the present index stays live until the new one is complete.

    Raises INGEST_IN_PROGRESS while the document is in flight, INGEST_SOURCE_MISSING when its file is gone.
    """
    locked = await repository.taken(call.db, document.id)
    if locked is None:
        raise not_found("document")
    _refuse_in_flight(locked)
    if not await call.of(BlobStore).exists(call.tenant_id, locked.blob_id):
        raise ApiError(ErrorCode.INGEST_SOURCE_MISSING, "The stored source of this document is gone; upload it again.")
    job_id = await _queue(call, locked, body.chunk_size_chars, body.chunk_overlap_chars, reindexed=True)
    call.record(document_id=document.id)
    return accepted(locked, job_id)


async def delete(call: CallContext, document: Document) -> None:
    """Remove the document, its index and its file. Raises INGEST_IN_PROGRESS while it is in flight."""
    locked = await repository.taken(call.db, document.id)
    if locked is None:
        raise not_found("document")
    _refuse_in_flight(locked)
    if (locked.num_chunks or 0) > _MANY_CHUNKS:
        await call.db.set_options({"statement_timeout": "120000"})
    await index.remove(call.db, [locked.id])
    await repository.delete(call.db, [locked.id])
    call.session.expunge(locked)
    # The file goes by a job, so that a crash between commit and removal leaves nothing behind.
    await call.of(BlobStore).remove_later(call.db, locked.blob_id)
    call.after_commit(lambda: _wake(call))
    call.record(document_id=locked.id, corpus_id=locked.corpus_id)


async def list_documents(call: CallContext, corpus_id: str | None, limit: int, cursor: str | None) -> Listed[DocumentOut]:
    """The documents that the caller may read, newest first."""
    cursors = call.of(Cursors)
    listing = f"documents/{call.tenant_id}/{call.principal.subject_id}/{corpus_id}"
    after = None
    if cursor:
        moment, last_id = cursors.open(listing, cursor)
        after = [clock.parse(moment), last_id]
    rows = await repository.newest_first(call, corpus_id, after, limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    following = cursors.seal(listing, [rows[-1]["created_at"].isoformat(), rows[-1]["id"]]) if more else None
    return Listed.of_rows([_plain(row) for row in rows], Page(next_cursor=following, has_more=more))


async def describe(call: CallContext, document: Document) -> DocumentOut:
    """The document with the number of its live version."""
    version = await repository.version_number(call.db, document.live_version_id) if document.live_version_id else None
    return DocumentOut.model_construct(
        **{name: getattr(document, name) for name in DocumentOut.model_fields if name not in ("metadata", "version")},
        metadata=document.labels,
        version=version,
    )


def _plain(row: Any) -> dict[str, Any]:
    """A row of `repository.COLUMNS` as DocumentOut has it."""
    return {name: row[name] for name in _PLAIN}


_PLAIN = tuple(name for name in DocumentOut.model_fields if name != "version")


def accepted(document: Document, job_id: str | None) -> DocumentAccepted:
    return DocumentAccepted.model_construct(
        document_id=document.id,
        status=document.status,  # type: ignore[arg-type]  # the table knows these states alone
        job_id=job_id,
        status_url=f"/v1/documents/{document.id}",
    )


async def _existing(call: CallContext, corpus: CorpusView, incoming: Incoming) -> Document | None:
    if incoming.document_id is None:
        return None
    await repository.claim_id(call.db, incoming.document_id)
    existing = await repository.taken(call.db, incoming.document_id)
    if existing is None:
        return None
    if existing.corpus_key != corpus.key or not await repository.may(call, existing.id, Permission.WRITE):
        raise ApiError(ErrorCode.CONFLICT, "This document id is taken; choose another.")
    if incoming.overwrite:
        _refuse_in_flight(existing)
    return existing


def _refuse_in_flight(document: Document) -> None:
    if document.in_flight:
        raise ApiError(ErrorCode.INGEST_IN_PROGRESS, f"The document is {document.status}; wait until it is done.")


async def _queue(
    call: CallContext,
    document: Document,
    size: int | None,
    overlap: int | None,
    *,
    reindexed: bool = False,
    former: dict[str, Any] | None = None,
) -> str:
    ingestion = call.of(Settings).ingestion
    document.status, document.failure_reason, document.progress = "queued", None, {"bytes": document.size_bytes}
    document.queued_at, document.processing_started_at, document.completed_at = clock.now(), None, None
    arguments: dict[str, Any] = {"document_id": document.id, "reindex": reindexed}
    if size is not None:
        arguments["chunk_size_chars"] = size
    if overlap is not None:
        arguments["chunk_overlap_chars"] = overlap
    if former is not None:
        arguments["former"] = former
    job_id = await enqueue(call.db, INGEST, arguments, queue=ingestion.ingest_queue_name, max_attempts=ingestion.ingest_max_retries)
    document.last_job_id = job_id
    await repository.save(call.db, document)
    if ingestion.ingest_execution_mode == "inline":
        call.after_commit(lambda: _run_inline(call, job_id))
    else:
        call.after_commit(lambda: _wake(call))
    return job_id


async def _wake(call: CallContext) -> None:
    await call.of(Redis).wake(call.of(Settings).ingestion.ingest_queue_name)


async def _run_inline(call: CallContext, job_id: str) -> None:
    """The same function that a worker runs, in this request. It goes on when the client goes away."""
    job = await take(call.resources, call.tenant_id, job_id, worker="inline")
    if job is not None:
        await asyncio.shield(execute_leased(job, call.of(Handlers).of(job.kind)))
