"""Use cases of the console's documents."""

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, asc, desc

from nexusrag.console.documents.schemas import UiAction, UiDocumentRow, UiDocuments, UiFacetValue, UiOptimistic
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.knowledge.documents import facade as documents
from nexusrag.knowledge.documents.facade import Document, Reindex
from nexusrag.knowledge.visibility import visible_to
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.cursors import Cursors
from nexusrag.web.envelope import Page

_SORTABLE: dict[str, Any] = {
    "created_at": Document.created_at,
    "updated_at": Document.updated_at,
    "filename": Document.filename,
    "name": Document.filename,
    "status": Document.status,
    "id": Document.id,
}
_MOMENTS = ("created_at", "updated_at")


async def list_documents(
    call: CallContext,
    *,
    q: str | None,
    sort: str,
    limit: int,
    cursor: str | None,
    status: str | None,
    corpus_id: str | None,
    created_from: datetime | None,
    created_to: datetime | None,
) -> UiDocuments:
    """One page of what the caller may read, and how many there are in each state.

    Raises BAD_REQUEST for an unknown sort field or mixed directions, INVALID_CURSOR for a foreign cursor.
    """
    names, descending = _order(sort)
    condition = _condition(call, q, corpus_id, created_from, created_to)
    shown = condition if status is None else and_(condition, Document.status == status)
    cursors = call.of(Cursors)
    filters = hashlib.sha256(repr((q, status, corpus_id, created_from, created_to)).encode()).hexdigest()
    listing = f"ui/documents/{call.tenant_id}/{call.principal.subject_id}/{sort}/{filters}"
    after = _position(names, cursors.open(listing, cursor)) if cursor else None
    columns = tuple(_SORTABLE[name] for name in names)
    statement = documents.page(
        call.tenant_id, shown, order=columns, after=None if after is None else (after, descending), limit=limit + 1
    ).order_by(*(desc(column) if descending else asc(column) for column in columns))
    rows = list((await call.db.connection.execute(statement)).all())
    counts = await documents.count_by_status(call, condition)
    more = len(rows) > limit
    rows = rows[:limit]
    following = cursors.seal(listing, [_plain(getattr(rows[-1], _column(name))) for name in names]) if more else None
    return UiDocuments(
        items=[UiDocumentRow.model_construct(**{name: row._mapping[name] for name in UiDocumentRow.model_fields}) for row in rows],
        page=Page(next_cursor=following, has_more=more),
        facets={"status": [UiFacetValue(value=value, count=count) for value, count in sorted(counts.items())]},
    )


async def reindex(call: CallContext, document: Document) -> UiAction:
    """Index a document anew. Raises ACTION_CONFLICT while it is in flight."""
    try:
        accepted = await documents.reindex(call, document, Reindex())
    except ApiError as error:
        if error.code is ErrorCode.INGEST_IN_PROGRESS:
            raise ApiError(ErrorCode.ACTION_CONFLICT, error.message) from error
        raise
    return UiAction(
        action_id=accepted.job_id or "",
        status="accepted",
        accepted_at=clock.iso(clock.now()) or "",
        optimistic=UiOptimistic(entity="document", id=document.id, patch={"status": "queued"}),
        poll_url=accepted.status_url,
    )


def _order(sort: str) -> tuple[list[str], bool]:
    """Fields of the order, ended by the id so that ties have one, and whether it is descending."""
    fields = [field.strip() for field in sort.split(",") if field.strip()] or ["-created_at"]
    names = [field.lstrip("-") for field in fields]
    directions = {field.startswith("-") for field in fields}
    unknown = [name for name in names if name not in _SORTABLE]
    if unknown or len(fields) > 3:
        raise ApiError(ErrorCode.BAD_REQUEST, f"sort: use up to three of {', '.join(sorted(_SORTABLE))}, each with or without '-'.")
    if len(directions) > 1:
        raise ApiError(ErrorCode.BAD_REQUEST, "sort: give all fields the same direction.")
    return [*names, *([] if "id" in names else ["id"])], directions.pop()


def _condition(
    call: CallContext, q: str | None, corpus_id: str | None, created_from: datetime | None, created_to: datetime | None
) -> ColumnElement[bool]:
    conditions = [visible_to(call.principal, call.of(Settings))]
    if q:
        conditions.append(documents.matches(q))
    if corpus_id is not None:
        conditions.append(Document.corpus_id == corpus_id)
    if created_from is not None:
        conditions.append(Document.created_at >= created_from)
    if created_to is not None:
        conditions.append(Document.created_at <= created_to)
    return and_(*conditions)


def _column(name: str) -> str:
    return "filename" if name == "name" else name


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _position(names: list[str], position: list[Any]) -> list[Any]:
    return [clock.parse(value) if name in _MOMENTS else value for name, value in zip(names, position, strict=True)]
