"""THE rule of who may read which document, as one SQL condition, and the stage that applies it to a loaded document."""

from functools import cache

from sqlalchemy import ColumnElement, and_, exists, or_, true

from nexusrag.access.permissions.facade import granted
from nexusrag.kernel.actions import Permission, Resource, Role
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.principal import Principal
from nexusrag.knowledge.corpora.facade import Corpus
from nexusrag.knowledge.documents.models import Document
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage


def visible_to(principal: Principal, settings: Settings) -> ColumnElement[bool]:
    """Whether `principal` may read a row of `documents`: by ownership or grant, or because its corpus is open to the tenant.

    Searches, listings, counts, facets and single reads all use this condition, inside their statement.
    """
    return in_living_corpus() if bypasses(principal, settings) else _readable(principal)


@cache
def visible_to_caller(bypass: bool) -> ColumnElement[bool]:
    """The same condition with the parameters of `caller`, for statements that are built once."""
    return in_living_corpus() if bypass else _readable(None)


def _readable(principal: Principal | None) -> ColumnElement[bool]:
    # Side by side, never one inside the other: two levels down the grants would no longer be those of this document.
    return or_(
        in_living_corpus(Corpus.visibility == "tenant"),
        and_(in_living_corpus(), granted(principal, Permission.READ, Document.tenant_id, Document.id)),
    )


def in_living_corpus(condition: ColumnElement[bool] | None = None) -> ColumnElement[bool]:
    """Whether a document's corpus is not being deleted, and meets `condition`. A corpus is hidden before it is empty."""
    corpus = exists().where(Corpus.tenant_id == Document.tenant_id, Corpus.key == Document.corpus_key, Corpus.deleted_at.is_(None))
    return (corpus if condition is None else corpus.where(condition)).correlate_except(Corpus)


def holds(principal: Principal, settings: Settings, permission: Permission) -> ColumnElement[bool]:
    """Whether `principal` was granted `permission` on a row of `documents`."""
    if bypasses(principal, settings):
        return true()
    return granted(principal, permission, Document.tenant_id, Document.id)


async def check_document(call: CallContext) -> None:
    """Refuse what the loaded document's permissions do not allow.

    A document that the caller may not even read does not exist for them; an admin, who manages permissions, is told. A body
    that names no document is left to the validation of the body.
    """
    if call.loaded is None:
        return
    visible, permitted = call.rights
    if not visible and call.principal.role is not Role.ADMIN:
        raise not_found("document")
    needed = call.gate.permission
    if not (visible if needed is Permission.READ else permitted):
        name = needed.value if needed else "read"
        raise ApiError(ErrorCode.AUTHZ_DENIED, f"You need the permission {name} on this document.", {"permission": name})


def bypasses(principal: Principal, settings: Settings) -> bool:
    """Whether documents' permissions do not bind this caller."""
    return settings.auth.authz_admin_bypass_document_acl and principal.role is Role.ADMIN


def _needed(gate: Gate, method: str) -> bool:
    return gate.on is Resource.DOCUMENT


STAGE = Stage("document permissions", check_document, _needed)
