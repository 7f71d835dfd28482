"""HTTP face of activity: /v1/ui/activity."""

from typing import Annotated

from fastapi import Query

from nexusrag.console.activity import gates, service
from nexusrag.console.activity.schemas import UiActivity
from nexusrag.web.call import Call
from nexusrag.web.router import Router
from nexusrag.web.times import Time

router = Router("ui", tag="Console")


@router.get("/activity", gate=gates.LIST)
async def list_activity(
    call: Call,
    q: Annotated[str | None, Query(max_length=200)] = None,
    sort: Annotated[str, Query(max_length=100)] = "-occurred_at",
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
    cursor: str | None = None,
    actor_type: Annotated[str | None, Query(max_length=64)] = None,
    event_type: Annotated[str | None, Query(max_length=128)] = None,
    created_from: Time | None = None,
    created_to: Time | None = None,
) -> UiActivity:
    """What happened in the tenant, from its audit log: searched, filtered, sorted, a page at a time, with counts by kind."""
    filters = service.Filters(q=q, actor_type=actor_type, event_type=event_type, created_from=created_from, created_to=created_to)
    return await service.list_activity(call, filters, sort=sort, limit=limit, cursor=cursor)
