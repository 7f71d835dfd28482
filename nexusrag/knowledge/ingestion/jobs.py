"""Background functions of ingestion. Each may run twice and has its effect once."""

import asyncio
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexusrag.billing.costs.facade import Metered, hold, is_known_free, record_cap, settle_held
from nexusrag.billing.ledger.facade import settle
from nexusrag.flags.switches import facade as flags
from nexusrag.infra.database import Work
from nexusrag.infra.jobs import Job, PermanentFailure, SwitchedOff
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.switches import Switch
from nexusrag.kernel.traffic import RouteClass
from nexusrag.knowledge.corpora import facade as corpora
from nexusrag.knowledge.documents import facade as documents
from nexusrag.knowledge.index import facade as index
from nexusrag.knowledge.parsing.facade import (
    Chunk,
    ChunkParams,
    ParsedResult,
    ParseError,
    Progress,
    Sandbox,
    SandboxUnavailable,
    embedded_text,
)
from nexusrag.providers.embeddings.port import Embedder
from nexusrag.providers.llm.port import estimate_tokens
from nexusrag.security.crypto.facade import BlobStore
from nexusrag.settings import Settings

_EMBED_BATCH = 64
_REPORT_S = 2.0
_LONG = {"statement_timeout": "300000"}
# What only tells how far a document is may be lost with the server's power: nothing is waited for.
_TOLD = {"synchronous_commit": "off"}
_REMOVE_BATCH = 100
_TOO_DEAR = (
    f"{ErrorCode.COST_BUDGET_EXCEEDED}: to index it costs more than is left of this month's budget. "
    "Once there is more, reindex it; a new version has to be sent again."
)


async def ingest(job: Job) -> None:
    """Parse, chunk and embed one document, then swap the new version in. An earlier version stays live until then.

    Raises PermanentFailure with a reason for the uploader when trying again is no use.
    """
    document_id: str = job.args["document_id"]
    await flags.demand_work(job.resources, Switch.INGEST)
    async with job.work(options=_TOLD) as work:
        document = await documents.start(work, document_id)
    if document is None:
        raise PermanentFailure("The document or its corpus is gone.")
    space_id = await _space(job, document)
    params = _params(job)
    parsed = await _parse(job, document, params)
    await _go_on(job, document_id)
    if not parsed.chunks:
        raise PermanentFailure("No text was found in the document.")
    chunks = [_indexed(chunk) for chunk in parsed.chunks]
    vectors, tokens = await _embed(job, document, space_id, chunks, parsed.pages)
    await _go_on(job, document_id)
    # Each statement is bounded, but removing a long former version takes its time.
    async with job.work(finish=True, options=_LONG) as work:
        version_id = await index.insert(
            work,
            index.NewVersion(
                document_id=document_id,
                corpus_key=document["corpus_key"],
                space_id=space_id,
                sha256=document["sha256"],
                chunk_size_chars=params.size_chars,
                chunk_overlap_chars=params.overlap_chars,
                pages=parsed.pages,
                chars=parsed.chars,
                chunks=chunks,
                vectors=vectors,
            ),
        )
        await documents.finish(
            work,
            document_id,
            version_id=version_id,
            num_chunks=len(chunks),
            progress={"pages": parsed.pages, "pages_done": parsed.pages, "chunks": len(chunks), "chunks_done": len(chunks)},
            reindexed=bool(job.args.get("reindex")),
        )
        if document["live_version_id"] is not None:
            await index.retire_others(work, document_id, version_id)
        former = job.args.get("former")
        if former:
            await job.resources.get(BlobStore).remove_later(work, former["blob_id"])
        await _charge(job, work, document, tokens)


async def _charge(job: Job, work: Work, document: Any, tokens: int) -> None:
    """What embedding took, with the version that it made: an attempt that made none is not charged.

    Last in its transaction, since others wait for the rows of the ledger.
    """
    if tokens:
        by = document.get("created_by")
        await settle_held(job.resources, work, _subject(job), RouteClass.MUTATION, _used(job, tokens), user_id=by)
    else:  # an attempt before this one may have reserved something
        await settle(work, _subject(job), [], tokens=0, estimated=False)


def _used(job: Job, tokens: int) -> list[Metered]:
    if not tokens:
        return []
    model = job.resources.get(Embedder).model
    provider = job.resources.get(Settings).embeddings.embedding_provider
    return [Metered(component="embedding", provider=provider, model=model.name, input_tokens=tokens, estimated=True)]


def _subject(job: Job) -> str:
    """Under which the ledger knows it, however often it is run."""
    return f"ingest:{job.id}"


async def give_up(job: Job, work: Work, reason: str) -> None:
    """The document failed for good; say why. What it was to replace stays, index and source alike."""
    await documents.fail(work, job.args["document_id"], reason)
    former = job.args.get("former")
    if former:
        unnamed = await documents.restore(work, job.args["document_id"], former)
        # Without a live index there is nothing to keep the former source for.
        await job.resources.get(BlobStore).remove_later(work, unnamed or former["blob_id"])
    await settle(work, _subject(job), [], tokens=0, estimated=False)  # what it had reserved, if it came so far


async def remove_corpus(job: Job) -> None:
    """Remove what a deleted corpus held, some documents at a time, then the corpus."""
    corpus_key: int = job.args["corpus_key"]
    blobs = job.resources.get(BlobStore)
    while True:
        async with job.work() as work:
            batch = await documents.of_corpus(work, corpus_key, _REMOVE_BATCH)
        if not batch:
            break
        # Files first: a crash after this finds the rows again and removes the files again, which does no harm.
        for _, blob_id in batch:
            await blobs.delete(job.tenant_id, blob_id)
        ids = [document_id for document_id, _ in batch]
        async with job.work(options=_LONG) as work:
            await index.remove(work, ids)
            await documents.delete(work, ids)
    async with job.work(finish=True) as work:
        await corpora.remove(work, corpus_key)


async def _go_on(job: Job, document_id: str) -> None:
    """Raises SwitchedOff when operators have switched ingestion off meanwhile; the document then waits in the queue again."""
    try:
        await flags.demand_work(job.resources, Switch.INGEST)
    except SwitchedOff:
        async with job.work() as work:
            await documents.wait(work, document_id)
        raise


def _params(job: Job) -> ChunkParams:
    settings = job.resources.get(Settings).ingestion
    return ChunkParams(
        size_chars=job.args.get("chunk_size_chars", settings.chunk_size_chars),
        overlap_chars=job.args.get("chunk_overlap_chars", settings.chunk_overlap_chars),
    )


async def _parse(job: Job, document: Any, params: ChunkParams) -> ParsedResult:
    # Without a name: a worker that is killed leaves nothing of it.
    with TemporaryFile() as source:
        try:
            await job.resources.get(BlobStore).fetch(job.tenant_id, document["blob_id"], source)
        except ApiError as error:
            if error.code is ErrorCode.NOT_FOUND:
                raise PermanentFailure("The stored source of this document is gone; upload it again.") from error
            raise
        seen: list[Progress] = []
        reporting = asyncio.create_task(_report(job, document["id"], seen))
        try:
            return await job.resources.get(Sandbox).run(source, document["content_type"], params, seen.append)
        except ParseError as error:
            raise PermanentFailure(error.reason) from error
        except SandboxUnavailable as error:
            raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, "No parser process could be started.") from error
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)


async def _report(job: Job, document_id: str, seen: list[Progress]) -> None:
    """While a long document is parsed, its resource says how far it is."""
    while True:
        await asyncio.sleep(_REPORT_S)
        if seen:
            latest = seen[-1]
            seen.clear()
            async with job.work() as work:
                await documents.set_progress(work, document_id, {"pages": latest.pages or None, "pages_done": latest.pages_done})


async def _space(job: Job, document: Any) -> int:
    """The corpus's space, claimed for this installation's model by its first document."""
    model = job.resources.get(Embedder).model
    space_id, held = document["space_id"], document["space_model"]
    if space_id is None:
        # A transaction of its own: an upload locks the corpus first and the document then, so nobody may do it the other way round.
        async with job.work() as work:
            space_id, held = await corpora.claim_space(work, document["corpus_key"], model.name, model.dimensions)
    if held != model.name:
        raise PermanentFailure(f"{ErrorCode.EMBEDDING_DIMENSION_MISMATCH}: the corpus was indexed with {held}, not {model.name}.")
    found: int = space_id
    return found


async def _embed(
    job: Job, document: Any, space_id: int, chunks: list[index.IndexedChunk], pages: int | None
) -> tuple[NDArray[np.float32], int]:
    """Vectors of all chunks, shape (len(chunks), dimensions), and the tokens that it took, by estimate.

    Those that the live version has already are not made again. What the others cost is reserved before they are made.
    """
    embedder = job.resources.get(Embedder)
    known: dict[bytes, NDArray[np.float32]] = {}
    looks, held = bool(document["live_version_id"] or len(chunks) > _EMBED_BATCH), True
    missing, tokens = list(range(len(chunks))), estimate_tokens(*(chunk.embedded for chunk in chunks))
    if looks or not is_known_free(job.resources, job.tenant_id, _used(job, tokens)):
        # A reservation that is lost with the server's power is made again by the next attempt.
        async with job.work(options=_TOLD) as work:
            if looks:
                known = await index.known_vectors(work, document["id"], space_id, [chunk.hash for chunk in chunks])
                progress = {"pages": pages, "pages_done": pages, "chunks": len(chunks), "chunks_done": len(known)}
                await documents.set_progress(work, document["id"], progress)
                missing = [place for place, chunk in enumerate(chunks) if chunk.hash not in known]
                tokens = estimate_tokens(*(chunks[place].embedded for place in missing))
            by = document.get("created_by")
            held = await hold(job.resources, work, _subject(job), RouteClass.MUTATION, _used(job, tokens), user_id=by)
    if not held:
        async with job.work() as work:
            await record_cap(job.resources, work)
        raise PermanentFailure(_TOO_DEAR)
    vectors = np.empty((len(chunks), embedder.model.dimensions), dtype=np.float32)
    for place, chunk in enumerate(chunks):
        if chunk.hash in known:
            vectors[place] = known[chunk.hash]
    for start in range(0, len(missing), _EMBED_BATCH):
        places = missing[start : start + _EMBED_BATCH]
        if start:
            await _go_on(job, document["id"])
        try:
            vectors[places] = await embedder.embed([chunks[place].embedded for place in places], tenant_id=job.tenant_id)
        except ApiError as error:
            if error.code is ErrorCode.EMBEDDING_DIMENSION_MISMATCH:
                raise PermanentFailure(error.message) from error
            raise
        if len(missing) > _EMBED_BATCH:
            async with job.work() as work:
                await documents.set_progress(work, document["id"], {"chunks_done": len(chunks) - len(missing) + start + len(places)})
    return vectors, tokens


def _indexed(chunk: Chunk) -> index.IndexedChunk:
    return index.IndexedChunk(
        chunk.ord, chunk.text, embedded_text(chunk), chunk.heading_path, chunk.start, chunk.end, chunk.page, chunk.page_end, chunk.hash
    )
