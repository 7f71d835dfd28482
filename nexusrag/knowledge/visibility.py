"""THE rule of who may do what with which document: as one SQL condition for sets of documents, and as a check of a loaded one.

Allowed is what no policy denies, and what a grant on the document or its corpus, an open corpus (reading alone), an allowing policy
or AUTHZ_DEFAULT_DENY=false gives. Searches, listings, counts, facets, citations and single reads all follow it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, or_, true

from nexusrag.access.permissions.facade import caller as caller_values
from nexusrag.access.permissions.facade import granted
from nexusrag.access.policies.facade import Caller, caller_of
from nexusrag.infra.statements import expression
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Action, Permission, Resource
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.knowledge.corpora.facade import Corpus
from nexusrag.knowledge.documents.models import Document
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage

_MOMENT = "to_jsonb(to_char(documents.{} at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))"
# What policies may ask of a document, as SQL and (in `attributes`) as values. Both say the same.
COLUMNS: Mapping[str, str] = {
    "id": "to_jsonb(documents.id)",
    "corpus_id": "to_jsonb(documents.corpus_id)",
    "filename": "to_jsonb(documents.filename)",
    "content_type": "to_jsonb(documents.content_type)",
    "source": "to_jsonb(documents.source)",
    "status": "to_jsonb(documents.status)",
    "owner": "to_jsonb(documents.created_by)",
    "size_bytes": "to_jsonb(documents.size_bytes)",
    "created_at": _MOMENT.format("created_at"),
    "updated_at": _MOMENT.format("updated_at"),
    "labels": "(documents.metadata -> 'labels')",
    "metadata": "documents.metadata",
}


def attributes(document: Document) -> dict[str, Any]:
    """The same of a loaded document."""
    return {
        "id": document.id,
        "corpus_id": document.corpus_id,
        "filename": document.filename,
        "content_type": document.content_type,
        "source": document.source,
        "status": document.status,
        "owner": document.created_by,
        "size_bytes": document.size_bytes,
        "created_at": clock.seconds(document.created_at),
        "updated_at": clock.seconds(document.updated_at),
        "labels": (document.labels or {}).get("labels"),
        "metadata": document.labels or {},
    }


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule for one caller and permission. Two rules of the same shape differ in `values` alone, so statements can be kept by it."""

    shape: "Shape"
    values: Mapping[str, Any]

    @property
    def condition(self) -> ColumnElement[bool]:
        """The condition on rows of `documents`; the statement takes `values` as its parameters."""
        return condition(self.shape)


@dataclass(frozen=True, slots=True)
class Shape:
    """`allow` and `deny` are what policies say: true, false, or SQL over a row of `documents`. `open`: no grant is needed.

    `constants` names the parameter with the constants of policies.
    """

    permission: Permission
    constants: str
    open: bool
    allow: bool | str
    deny: bool | str


def rule(caller: Caller, permission: Permission, constants: str = "policy_values") -> Rule:
    """What `caller` may do with documents. Its `shape` has no value of theirs, its `values` have them all.

    Two rules in one statement need different names for their `constants`.
    """
    ruling = caller.ruling(Resource.DOCUMENT, permission.value, COLUMNS, constants)
    shape = Shape(permission, constants, _unbound(caller), ruling.allow, ruling.deny)
    return Rule(shape, {**caller_values(caller.principal), constants: ruling.values})


@lru_cache(maxsize=512)
def condition(shape: Shape) -> ColumnElement[bool]:
    """The rule as a condition on `documents`, with the parameters of `Rule.values`."""
    if shape.deny is True:
        return false()
    living = in_living_corpus()
    # Side by side, never one inside the other: two levels down the grants would no longer be those of this document.
    ways: list[ColumnElement[bool]] = [granted(shape.permission, Document.tenant_id, Document.id, Document.corpus_id)]
    if shape.permission is Permission.READ:
        ways.append(in_living_corpus(Corpus.visibility == "tenant"))
    if shape.allow is not False:
        ways.append(true() if shape.allow is True else expression(shape.allow, shape.constants))
    parts = [living, true() if shape.open else or_(*ways)]
    if shape.deny is not False:
        parts.append(expression(f"not {shape.deny}", shape.constants))
    return and_(*parts)


def in_living_corpus(condition: ColumnElement[bool] | None = None) -> ColumnElement[bool]:
    """Whether a document's corpus is not being deleted, and meets `condition`. A corpus is hidden before it is empty."""
    corpus = exists().where(Corpus.tenant_id == Document.tenant_id, Corpus.key == Document.corpus_key, Corpus.deleted_at.is_(None))
    return (corpus if condition is None else corpus.where(condition)).correlate_except(Corpus)


@dataclass(frozen=True, slots=True)
class Held:
    """What was granted to the caller on a loaded document: reading, and the permission that the gate needs."""

    read: bool
    needed: bool
    corpus_is_open: bool


async def check_document(call: CallContext) -> None:
    """Refuse what the caller may not do with the loaded document.

    A document that the caller may not even read does not exist for them; who manages permissions is told. A body that names no
    document is left to the validation of the body.
    """
    needed = call.gate.permission
    if call.loaded is None or needed is None:
        return
    caller, held = caller_of(call), call.rights
    known = attributes(call.loaded)
    if _permits(caller, needed, held.needed or (needed is Permission.READ and held.corpus_is_open), known):
        return
    readable = needed is not Permission.READ and _permits(caller, Permission.READ, held.read or held.corpus_is_open, known)
    if not readable and not call.principal.may(Action.PERMISSIONS_READ):
        raise not_found("document")
    call.denied_by = caller.decide(Resource.DOCUMENT, needed.value, known).denied_by
    raise ApiError(ErrorCode.AUTHZ_DENIED, f"You may not {needed.value} this document.", {"permission": needed.value})


def _permits(caller: Caller, permission: Permission, held: bool, known: Mapping[str, Any]) -> bool:
    """The rule for a loaded document, of which `held` says whether a grant or an open corpus gives the permission."""
    decision = caller.decide(Resource.DOCUMENT, permission.value, known)
    return decision.denied_by is None and (held or _unbound(caller) or decision.allowed_by is not None)


def _unbound(caller: Caller) -> bool:
    """Whether this caller needs no grant."""
    return not caller.default_deny or (caller.bypass and caller.principal.is_admin)


def _needed(gate: Gate, method: str) -> bool:
    return gate.on is Resource.DOCUMENT


STAGE = Stage("document permissions", check_document, _needed)
