"""Activity on the wire."""

from datetime import datetime

from pydantic import BaseModel

from nexusrag.web.envelope import Page


class UiActivityItem(BaseModel):
    """`summary` says the whole in one line."""

    id: int
    occurred_at: datetime
    event_type: str
    outcome: str
    actor_type: str | None
    actor_id: str | None
    resource_type: str | None
    resource_id: str | None
    summary: str
    request_id: str | None
    error_code: str | None


class UiFacet(BaseModel):
    value: str
    count: int


class UiActivity(BaseModel):
    """`facets` count the newest ten thousand events that meet the filters, those of each facet's own field left out."""

    items: list[UiActivityItem]
    page: Page
    facets: dict[str, list[UiFacet]]
