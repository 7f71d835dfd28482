"""HTTP face of permissions: /v1/admin/authz/documents/… and /v1/admin/authz/corpora/…"""

from typing import Any

from nexusrag.access.permissions import gates, service
from nexusrag.access.permissions.schemas import CorpusGrant, CorpusGrants, DocumentGrant, DocumentGrants, GrantIn, GrantsIn
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

router = Router("admin/authz", tag="Permissions")


@router.get("/documents/{document_id}/permissions", gate=gates.LIST_OF_DOCUMENT)
async def list_document_permissions(call: Call, document: Loaded[Any]) -> DocumentGrants:
    """List who was granted what on a document, those whose grant has expired included."""
    return DocumentGrants(items=[DocumentGrant.of(row) for row in await service.grants(call, "document", document.id)])


@router.post("/documents/{document_id}/permissions", gate=gates.CHANGE_OF_DOCUMENT, status_code=201)
async def grant_document_permission(call: Call, document: Loaded[Any], body: GrantIn) -> DocumentGrant:
    """Grant a permission on a document. Granted again, it gets the new expiry."""
    (row,) = await service.grant(call, "document", document.id, [body])
    return DocumentGrant.of(row)


@router.post("/documents/{document_id}/permissions/bulk", gate=gates.CHANGE_OF_DOCUMENT, status_code=201)
async def grant_document_permissions(call: Call, document: Loaded[Any], body: GrantsIn) -> DocumentGrants:
    """Grant up to 1,000 permissions on a document: all of them, or none."""
    return DocumentGrants(items=[DocumentGrant.of(row) for row in await service.grant(call, "document", document.id, body.permissions)])


@router.delete("/documents/{document_id}/permissions/{permission_id}", gate=gates.CHANGE_OF_DOCUMENT)
async def revoke_document_permission(call: Call, document: Loaded[Any], permission_id: str) -> DocumentGrant:
    """Take a permission back; from now on no search, listing or read counts it."""
    return DocumentGrant.of(await service.revoke(call, "document", document.id, permission_id))


@router.get("/corpora/{corpus_id}/permissions", gate=gates.LIST_OF_CORPUS)
async def list_corpus_permissions(call: Call, corpus: Loaded[Any]) -> CorpusGrants:
    """List who was granted what on a corpus."""
    return CorpusGrants(items=[CorpusGrant.of(row) for row in await service.grants(call, "corpus", corpus.id)])


@router.post("/corpora/{corpus_id}/permissions", gate=gates.CHANGE_OF_CORPUS, status_code=201)
async def grant_corpus_permission(call: Call, corpus: Loaded[Any], body: GrantIn) -> CorpusGrant:
    """Grant a permission on a corpus: it reaches every document in it, those to come included."""
    (row,) = await service.grant(call, "corpus", corpus.id, [body])
    return CorpusGrant.of(row)


@router.post("/corpora/{corpus_id}/permissions/bulk", gate=gates.CHANGE_OF_CORPUS, status_code=201)
async def grant_corpus_permissions(call: Call, corpus: Loaded[Any], body: GrantsIn) -> CorpusGrants:
    """Grant up to 1,000 permissions on a corpus: all of them, or none."""
    return CorpusGrants(items=[CorpusGrant.of(row) for row in await service.grant(call, "corpus", corpus.id, body.permissions)])


@router.delete("/corpora/{corpus_id}/permissions/{permission_id}", gate=gates.CHANGE_OF_CORPUS)
async def revoke_corpus_permission(call: Call, corpus: Loaded[Any], permission_id: str) -> CorpusGrant:
    """Take a permission back."""
    return CorpusGrant.of(await service.revoke(call, "corpus", corpus.id, permission_id))
