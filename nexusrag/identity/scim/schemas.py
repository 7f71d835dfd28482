"""Provisioning tokens and SCIM requests on the wire. Resources have a schema of their own (schema.py)."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nexusrag.identity.scim.models import ScimToken
from nexusrag.web.envelope import Page


class ScimTokenCreated(BaseModel):
    """A new token. `token` is in this answer alone."""

    token_id: str
    token_prefix: str
    token: str | None = Field(description="shown this once; null in an answer that is repeated for an Idempotency-Key")
    expires_at: datetime | None


class ScimTokenRevoke(BaseModel):
    model_config = ConfigDict(extra="forbid")
    token_id: Annotated[str, Field(min_length=1, max_length=128)]


class ScimTokenOut(BaseModel):
    token_id: str
    token_prefix: str
    created_by: str | None
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, token: ScimToken) -> "ScimTokenOut":
        moments = ("created_at", "last_used_at", "expires_at", "revoked_at")
        given = {name: getattr(token, name) for name in ("created_by", *moments)}
        return cls(token_id=token.id, token_prefix=token.prefix, **given)


class ScimTokenList(BaseModel):
    items: list[ScimTokenOut]
    page: Page


class Showing(BaseModel):
    """Which attributes the answer shows."""

    attributes: str | None = Field(None, description="comma-separated: these alone")
    excluded_attributes: str | None = Field(None, alias="excludedAttributes", description="comma-separated: all but these")


class Listing(Showing):
    filter: str | None = Field(None, description='such as `userName eq "ada@example.org"` (RFC 7644, section 3.4.2.2)')
    sort_by: str | None = Field(None, alias="sortBy")
    sort_order: str | None = Field(None, alias="sortOrder", description="ascending or descending")
    start_index: int | None = Field(None, alias="startIndex", description="the first result, counted from 1")
    count: int | None = Field(None, description="most results; 0 counts them alone")


class SearchRequest(BaseModel):
    """A query in a body (RFC 7644, section 3.4.3)."""

    schemas: list[str] | None = None
    attributes: list[str] | None = None
    excluded_attributes: list[str] | None = Field(None, alias="excludedAttributes")
    filter: str | None = None
    sort_by: str | None = Field(None, alias="sortBy")
    sort_order: str | None = Field(None, alias="sortOrder")
    start_index: int | None = Field(None, alias="startIndex")
    count: int | None = None


Body = dict[str, Any]
