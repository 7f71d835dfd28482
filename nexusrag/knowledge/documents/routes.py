"""HTTP face of documents: /v1/documents."""

from typing import Annotated

from fastapi import Body, File, Form, Query, UploadFile

from nexusrag.knowledge.corpora.facade import CorpusView
from nexusrag.knowledge.documents import gates, service, uploads
from nexusrag.knowledge.documents.models import Document
from nexusrag.knowledge.documents.schemas import ClientId, DocumentAccepted, DocumentOut, Reindex, TextIngest
from nexusrag.web.call import Call, Loaded
from nexusrag.web.envelope import Listed
from nexusrag.web.router import Router

router = Router("documents", tag="Documents")


@router.get("", gate=gates.LIST)
async def list_documents(
    call: Call,
    corpus_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    cursor: str | None = None,
) -> Listed[DocumentOut]:
    """List the documents that the caller may read, newest first; `meta.page` says whether there are more."""
    return await service.list_documents(call, corpus_id, limit, cursor)


@router.post("", gate=gates.CREATE, status_code=202)
async def upload_document(
    call: Call,
    corpus: Loaded[CorpusView],
    corpus_id: Annotated[str, Form()],
    file: Annotated[UploadFile, File()],
    document_id: Annotated[ClientId | None, Form()] = None,
    overwrite: Annotated[bool, Form()] = False,
    metadata_json: Annotated[str | None, Form(description="a JSON object of strings, numbers and booleans")] = None,
) -> DocumentAccepted:
    """Upload a file. Answers 202; poll `status_url` until the status is succeeded or failed."""
    return await service.accept(call, corpus, uploads.of_file(file, document_id, overwrite, metadata_json))


@router.post("/text", gate=gates.CREATE, status_code=202)
async def ingest_text(call: Call, corpus: Loaded[CorpusView], body: TextIngest) -> DocumentAccepted:
    """Ingest raw text. With a `document_id` the call can be repeated safely; `overwrite` replaces what is there."""
    return await service.accept(call, corpus, uploads.of_text(call, body))


@router.get("/{document_id}", gate=gates.READ)
async def get_document(call: Call, document: Loaded[Document]) -> DocumentOut:
    """Get one document with its status and progress."""
    return await service.describe(call, document)


@router.delete("/{document_id}", gate=gates.DELETE, status_code=204)
async def delete_document(call: Call, document: Loaded[Document]) -> None:
    """Remove a document, its index and its file. 409 while it is queued or processing."""
    await service.delete(call, document)


@router.post("/{document_id}/reindex", gate=gates.REINDEX, status_code=202)
async def reindex_document(call: Call, document: Loaded[Document], body: Annotated[Reindex | None, Body()] = None) -> DocumentAccepted:
    """Index the stored source anew, optionally with other chunk sizes. The present index stays live meanwhile."""
    return await service.reindex(call, document, uploads.checked(call, body or Reindex()))
