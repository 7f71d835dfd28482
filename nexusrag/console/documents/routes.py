"""HTTP face of the console's documents: /v1/ui/documents."""

from typing import Annotated, Literal

from fastapi import Query

from nexusrag.console.documents import service
from nexusrag.console.documents.schemas import UiAction, UiDocuments, UiReindex
from nexusrag.knowledge.documents.facade import Document, gates
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router
from nexusrag.web.times import Time

router = Router("ui", tag="Console")


@router.get("/documents", gate=gates.LIST_FOR_CONSOLE)
async def list_documents(
    call: Call,
    q: Annotated[str | None, Query(max_length=200)] = None,
    sort: Annotated[str, Query(max_length=100)] = "-created_at",
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
    cursor: str | None = None,
    status: Literal["queued", "processing", "succeeded", "failed"] | None = None,
    corpus_id: str | None = None,
    created_from: Time | None = None,
    created_to: Time | None = None,
) -> UiDocuments:
    """Documents that the caller may read: searched, filtered, sorted, a page at a time, with counts by status."""
    return await service.list_documents(
        call,
        q=q,
        sort=sort,
        limit=limit,
        cursor=cursor,
        status=status,
        corpus_id=corpus_id,
        created_from=created_from,
        created_to=created_to,
    )


@router.post("/actions/reindex-document", gate=gates.REINDEX_FROM_CONSOLE, status_code=202)
async def reindex_document(call: Call, document: Loaded[Document], body: UiReindex) -> UiAction:
    """Index a document anew; the answer says what to show until the poll tells the truth."""
    return await service.reindex(call, document)
