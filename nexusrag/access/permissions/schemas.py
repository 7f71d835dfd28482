"""What goes over the wire about permissions."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nexusrag.kernel import clock
from nexusrag.web.times import Time

_Granted = Literal["read", "write", "delete", "reindex", "owner"]


class GrantIn(BaseModel):
    """Who gets which permission, until when. Without `expires_at` it holds until it is taken back."""

    model_config = ConfigDict(extra="forbid")
    principal_type: Literal["user", "api_key", "group", "role"]
    principal_id: Annotated[str, Field(min_length=1, max_length=128)]
    permission: _Granted
    expires_at: Time | None = None


class GrantsIn(BaseModel):
    """Several grants, all made or none."""

    model_config = ConfigDict(extra="forbid")
    permissions: Annotated[list[GrantIn], Field(min_length=1, max_length=1000)]


class _Grant(BaseModel):
    id: str
    tenant_id: str
    principal_type: str
    principal_id: str
    permission: str
    granted_by: str | None
    expires_at: str | None
    created_at: str | None


class DocumentGrant(_Grant):
    """A grant on a document."""

    document_id: str

    @classmethod
    def of(cls, row: Any) -> "DocumentGrant":
        return cls(document_id=row["resource_id"], **_fields(row))


class CorpusGrant(_Grant):
    """A grant on a corpus, which reaches every document in it."""

    corpus_id: str

    @classmethod
    def of(cls, row: Any) -> "CorpusGrant":
        return cls(corpus_id=row["resource_id"], **_fields(row))


class DocumentGrants(BaseModel):
    items: list[DocumentGrant]


class CorpusGrants(BaseModel):
    items: list[CorpusGrant]


def _fields(row: Any) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("id", "tenant_id", "principal_type", "principal_id", "permission", "granted_by")},
        "expires_at": clock.iso(row["expires_at"]),
        "created_at": clock.iso(row["created_at"]),
    }
