"""All SQL of documents."""

from functools import cache, lru_cache
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Integer, Select, Text, bindparam, func, inspect, select, tuple_

from nexusrag.access.permissions.facade import caller, granted
from nexusrag.access.policies.facade import caller_of
from nexusrag.infra.database import Work
from nexusrag.infra.keyset import Order, behind
from nexusrag.infra.models import Moment
from nexusrag.infra.statements import Prepared
from nexusrag.kernel.actions import Permission
from nexusrag.kernel.errors import not_found
from nexusrag.knowledge import visibility
from nexusrag.knowledge.corpora.facade import Corpus
from nexusrag.knowledge.documents.models import Document
from nexusrag.web.call import CallContext

_NAMES = (
    "id",
    "tenant_id",
    "corpus_id",
    "filename",
    "content_type",
    "source",
    "ingest_source",
    "status",
    "failure_reason",
    "created_at",
    "updated_at",
    "queued_at",
    "processing_started_at",
    "completed_at",
    "last_reindexed_at",
    "last_job_id",
    "num_chunks",
    "size_bytes",
    "metadata",
    "progress",
    "live_version_id",
)
COLUMNS = tuple(Document.__table__.c[name] for name in _NAMES)


async def load(call: CallContext, document_id: str) -> Document:
    """The document with the caller's rights on it, in one statement; the permission stage judges them."""
    call.resource_id = document_id
    needed = call.gate.permission or Permission.READ
    statement = _loaded(needed).params(caller(call.principal))
    row = (await call.session.execute(statement.where(Document.tenant_id == call.tenant_id, Document.id == document_id))).one_or_none()
    if row is None:
        raise not_found("document")
    call.rights = visibility.Held(row.read, row.needed, row.corpus_is_open)
    document: Document = row[0]
    return document


@cache
def _loaded(needed: Permission) -> Select[Document, bool, bool, bool]:
    def held(permission: Permission) -> ColumnElement[bool]:
        return granted(permission, Document.tenant_id, Document.id, Document.corpus_id)

    return select(
        Document,
        held(Permission.READ).label("read"),
        held(needed).label("needed"),
        visibility.in_living_corpus(Corpus.visibility == "tenant").label("corpus_is_open"),
    ).where(visibility.in_living_corpus())


def page(call: CallContext, *conditions: ColumnElement[bool], order: Order, after: list[Any] | None, limit: int) -> Select[Any]:
    """Columns of the documents that the caller may read and that meet the conditions, in `order`, from behind the position `after`.

    The position has a value per column of the order.
    """
    statement: Select[Any] = _readable(call, select(*COLUMNS), *conditions)
    if after is not None:
        statement = statement.where(behind(order, after))
    return statement.order_by(*(column.desc() if descending else column.asc() for column, descending in order)).limit(limit)


@lru_cache(maxsize=512)
def _newest_first(shape: visibility.Shape, of_corpus: bool, onwards: bool) -> Prepared:
    here, there = (
        tuple_(Document.created_at, Document.id),
        tuple_(bindparam("after_moment", type_=Moment), bindparam("after_id", type_=Text)),
    )
    statement = select(*COLUMNS).where(Document.tenant_id == bindparam("tenant_id", type_=Text), visibility.condition(shape))
    if of_corpus:
        statement = statement.where(Document.corpus_id == bindparam("corpus_id", type_=Text))
    if onwards:
        statement = statement.where(here < there)
    return Prepared(statement.order_by(Document.created_at.desc(), Document.id.desc()).limit(bindparam("most", type_=Integer)))


async def newest_first(call: CallContext, corpus_id: str | None, after: list[Any] | None, limit: int) -> list[Any]:
    """Rows of the documents that the caller may read."""
    reading = visibility.rule(caller_of(call), Permission.READ)
    statement = _newest_first(reading.shape, corpus_id is not None, after is not None)
    moment, last_id = after or (None, None)
    values = {"tenant_id": call.tenant_id, "corpus_id": corpus_id, "after_moment": moment, "after_id": last_id, "most": limit}
    return await statement.fetch(call.db, {**values, **reading.values})


async def claim_id(work: Work, document_id: str) -> None:
    """Of several requests that want to make a document of this id, one goes on at a time, until its transaction ends."""
    await work.raw.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"document/{work.tenant_id}/{document_id}")


async def taken(work: Work, document_id: str) -> Document | None:
    """The document with this id, whoever may see it, as it is now and locked until the transaction ends."""
    statement = select(Document).where(Document.tenant_id == work.tenant_id, Document.id == document_id).with_for_update()
    # An entity that was loaded before would otherwise stay as it was before the lock was waited for.
    document: Document | None = await work.session.scalar(statement.execution_options(populate_existing=True))
    return document


_ADD = (
    "insert into documents (tenant_id, id, corpus_id, corpus_key, filename, content_type, source, ingest_source, status, metadata, "
    "size_bytes, sha256, blob_id, progress, created_by, queued_at, last_job_id, created_at, updated_at) values ($1, $2, $3, $4, $5, $6, "
    "$7, $8, $9, $10::text::jsonb, $11, $12, $13, $14::text::jsonb, $15, $16, $17, clock_timestamp(), clock_timestamp())"
)


async def save(work: Work, document: Document) -> None:
    """Write a changed document, or a new one, as uploads make it. That on the driver: the mapper takes longer for it than the server."""
    if not inspect(document).transient:
        await work.flush()
        return
    await work.raw.execute(
        _ADD, work.tenant_id, document.id, document.corpus_id, document.corpus_key, document.filename, document.content_type,
        document.source, document.ingest_source, document.status, orjson.dumps(document.labels).decode(), document.size_bytes,
        document.sha256, document.blob_id, orjson.dumps(document.progress).decode(), document.created_by, document.queued_at,
        document.last_job_id,
    )  # fmt: skip


async def may(call: CallContext, document_id: str, permission: Permission) -> bool:
    rule = visibility.rule(caller_of(call), permission)
    statement = select(rule.condition).where(Document.tenant_id == call.tenant_id, Document.id == document_id)
    return bool(await call.session.scalar(statement.params(dict(rule.values))))


async def version_number(work: Work, version_id: int) -> int | None:
    number: int | None = await work.raw.fetchval(
        "select number from document_versions where tenant_id = $1 and id = $2", work.tenant_id, version_id
    )
    return number


async def start(work: Work, document_id: str) -> Any:
    """Mark it as being processed; the row, or None when it is gone or its corpus is being removed."""
    return await work.raw.fetchrow(
        "update documents d set status = 'processing', processing_started_at = clock_timestamp(), updated_at = clock_timestamp() "
        "from corpora c where d.tenant_id = $1 and d.id = $2 and c.tenant_id = d.tenant_id and c.key = d.corpus_key "
        "and c.deleted_at is null "
        "returning d.*, c.space_id, (select s.model from embedding_spaces s where s.id = c.space_id) as space_model",
        work.tenant_id,
        document_id,
    )


async def wait(work: Work, document_id: str) -> None:
    """It was being processed, and waits again."""
    await work.raw.execute(
        "update documents set status = 'queued', processing_started_at = null, updated_at = clock_timestamp() "
        "where tenant_id = $1 and id = $2 and status = 'processing'",
        work.tenant_id,
        document_id,
    )


async def set_progress(work: Work, document_id: str, progress: dict[str, Any]) -> None:
    await work.raw.execute(
        "update documents set progress = progress || $3::text::jsonb where tenant_id = $1 and id = $2",
        work.tenant_id,
        document_id,
        orjson.dumps(progress).decode(),
    )


async def finish(work: Work, document_id: str, *, version_id: int, num_chunks: int, progress: dict[str, Any], reindexed: bool) -> None:
    """The version is live."""
    await work.raw.execute(
        "update documents set status = 'succeeded', failure_reason = null, live_version_id = $3, num_chunks = $4, "
        "progress = progress || $5::text::jsonb, completed_at = clock_timestamp(), updated_at = clock_timestamp(), "
        "last_reindexed_at = case when $6 then clock_timestamp() else last_reindexed_at end where tenant_id = $1 and id = $2",
        work.tenant_id,
        document_id,
        version_id,
        num_chunks,
        orjson.dumps(progress).decode(),
        reindexed,
    )


async def fail(work: Work, document_id: str, reason: str) -> None:
    """The attempt failed; an earlier version stays live."""
    await work.raw.execute(
        "update documents set status = 'failed', failure_reason = $3, completed_at = clock_timestamp(), updated_at = clock_timestamp() "
        "where tenant_id = $1 and id = $2",
        work.tenant_id,
        document_id,
        reason[:1000],
    )


def source_of(document: Document) -> dict[str, Any]:
    """What `restore` needs to put a document's source back."""
    return {
        "filename": document.filename,
        "content_type": document.content_type,
        "source": document.source,
        "ingest_source": document.ingest_source,
        "metadata": document.labels,
        "size_bytes": document.size_bytes,
        "sha256": document.sha256,
        "blob_id": document.blob_id,
    }


async def restore(work: Work, document_id: str, former: dict[str, Any]) -> str | None:
    """Put back the source of the index that is live, when replacing it failed. Returns the blob that is no longer named."""
    failed: str | None = await work.raw.fetchval(
        "with former as (select id, blob_id from documents where tenant_id = $1 and id = $2 and live_version_id is not null for update) "
        "update documents d set filename = $3, content_type = $4, source = $5, ingest_source = $6, metadata = $7::text::jsonb, "
        "size_bytes = $8, sha256 = $9, blob_id = $10 from former where d.tenant_id = $1 and d.id = former.id returning former.blob_id",
        work.tenant_id,
        document_id,
        former["filename"],
        former["content_type"],
        former["source"],
        former["ingest_source"],
        orjson.dumps(former["metadata"]).decode(),
        former["size_bytes"],
        former["sha256"],
        former["blob_id"],
    )
    return failed


async def of_corpus(work: Work, corpus_key: int, limit: int) -> list[tuple[str, str]]:
    """Ids and blobs of some documents of a corpus."""
    rows = await work.raw.fetch(
        "select id, blob_id from documents where tenant_id = $1 and corpus_key = $2 limit $3", work.tenant_id, corpus_key, limit
    )
    return [(row["id"], row["blob_id"]) for row in rows]


async def delete(work: Work, document_ids: list[str]) -> None:
    """The documents with their grants and versions; their index must be gone before."""
    await work.raw.execute("delete from documents where tenant_id = $1 and id = any($2)", work.tenant_id, document_ids)


def matches(text: str) -> ColumnElement[bool]:
    """File names and ids that contain `text`, whatever it is made of."""
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return Document.filename.ilike(pattern, escape="\\") | Document.id.ilike(pattern, escape="\\")


def _readable(call: CallContext, statement: Any, *conditions: ColumnElement[bool]) -> Any:
    reading = visibility.rule(caller_of(call), Permission.READ)
    return statement.where(Document.tenant_id == call.tenant_id, reading.condition, *conditions).params(dict(reading.values))


async def count_by_status(call: CallContext, *conditions: ColumnElement[bool]) -> dict[str, int]:
    """How many documents that the caller may read and that meet the conditions are in each state."""
    statement = _readable(call, select(Document.status, func.count()), *conditions).group_by(Document.status)
    return {row[0]: row[1] for row in await call.db.connection.execute(statement)}


async def totals(work: Work) -> dict[str, int]:
    """How many documents the tenant has in each state, whoever may read them."""
    rows = await work.raw.fetch("select status, count(*) as n from documents where tenant_id = $1 group by status", work.tenant_id)
    return {row["status"]: row["n"] for row in rows}
