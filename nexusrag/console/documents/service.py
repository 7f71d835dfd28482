"""Use cases of the console's documents."""

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement

from nexusrag.console.documents.schemas import UiAction, UiDocumentRow, UiDocuments, UiFacetValue, UiOptimistic
from nexusrag.console.listing import order_of, plain, position_of
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.knowledge.documents import facade as documents
from nexusrag.knowledge.documents.facade import Document, Reindex
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

    Raises BAD_REQUEST for an unknown sort field, INVALID_CURSOR for a foreign cursor.
    """
    order = order_of(sort, _SORTABLE, "-created_at")
    names = [name for name, _ in order]
    conditions = _conditions(q, corpus_id, created_from, created_to)
    shown = conditions if status is None else [*conditions, Document.status == status]
    cursors = call.of(Cursors)
    filters = hashlib.sha256(repr((q, status, corpus_id, created_from, created_to)).encode()).hexdigest()
    listing = f"ui/documents/{call.tenant_id}/{call.principal.subject_id}/{sort}/{filters}"
    after = position_of(names, cursors.open(listing, cursor), _MOMENTS) if cursor else None
    columns = [(_SORTABLE[name], descending) for name, descending in order]
    statement = documents.page(call, *shown, order=columns, after=after, limit=limit + 1)
    rows = list((await call.db.connection.execute(statement)).all())
    counts = await documents.count_by_status(call, *conditions)
    more = len(rows) > limit
    rows = rows[:limit]
    following = cursors.seal(listing, [plain(getattr(rows[-1], _column(name))) for name in names]) if more else None
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


def _conditions(
    q: str | None, corpus_id: str | None, created_from: datetime | None, created_to: datetime | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if q:
        conditions.append(documents.matches(q))
    if corpus_id is not None:
        conditions.append(Document.corpus_id == corpus_id)
    if created_from is not None:
        conditions.append(Document.created_at >= created_from)
    if created_to is not None:
        conditions.append(Document.created_at <= created_to)
    return conditions


def _column(name: str) -> str:
    return "filename" if name == "name" else name
