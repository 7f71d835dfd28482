"""The console's documents on the wire."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from nexusrag.web.envelope import Page


class UiDocumentRow(BaseModel):
    id: str
    filename: str
    status: str
    corpus_id: str
    content_type: str
    created_at: datetime
    updated_at: datetime
    last_reindexed_at: datetime | None
    failure_reason: str | None
    num_chunks: int | None
    progress: dict[str, Any]


class UiFacetValue(BaseModel):
    value: str
    count: int


class UiDocuments(BaseModel):
    items: list[UiDocumentRow]
    page: Page
    facets: dict[str, list[UiFacetValue]]


class UiReindex(BaseModel):
    model_config = ConfigDict(extra="forbid")
    document_id: str
    idempotency_key: str | None = Field(None, max_length=128)


class UiOptimistic(BaseModel):
    entity: str
    id: str
    patch: dict[str, Any]


class UiAction(BaseModel):
    """What the console may show at once; `poll_url` tells the truth."""

    action_id: str
    status: str
    accepted_at: str
    optimistic: UiOptimistic
    poll_url: str
