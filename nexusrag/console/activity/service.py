"""Use cases of activity."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nexusrag.console.activity.schemas import UiActivity, UiActivityItem, UiFacet
from nexusrag.console.listing import order_of, plain, position_of
from nexusrag.security.audit import facade as audit
from nexusrag.security.audit.facade import EVENT
from nexusrag.web.call import CallContext
from nexusrag.web.cursors import Cursors
from nexusrag.web.envelope import Page

_SORTABLE: dict[str, Any] = {
    "occurred_at": EVENT.occurred_at,
    "created_at": EVENT.occurred_at,
    "event_type": EVENT.event_type,
    "outcome": EVENT.outcome,
    "actor_type": EVENT.actor_type,
    "id": EVENT.id,
}
_MOMENTS = ("occurred_at", "created_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a client asks for; None: anything."""

    q: str | None
    actor_type: str | None
    event_type: str | None
    created_from: datetime | None
    created_to: datetime | None


async def list_activity(call: CallContext, filters: Filters, *, sort: str, limit: int, cursor: str | None) -> UiActivity:
    """One page of the log. Raises BAD_REQUEST for an unknown sort field, INVALID_CURSOR for a foreign cursor."""
    order = order_of(sort, _SORTABLE, "-occurred_at")
    names = [name for name, _ in order]
    conditions = _conditions(filters)
    of_kind = [
        column == value
        for column, value in ((EVENT.actor_type, filters.actor_type), (EVENT.event_type, filters.event_type))
        if value is not None
    ]
    cursors = call.of(Cursors)
    asked = hashlib.sha256(repr(filters).encode()).hexdigest()
    listing = f"ui/activity/{call.tenant_id}/{call.principal.subject_id}/{sort}/{asked}"
    after = position_of(names, cursors.open(listing, cursor), _MOMENTS) if cursor else None
    columns = [(_SORTABLE[name], descending) for name, descending in order]
    rows = await audit.page(call.db, *conditions, *of_kind, order=columns, after=after, limit=limit + 1)
    counted = await audit.kinds(call.db, *conditions)
    more = len(rows) > limit
    rows = rows[:limit]
    following = cursors.seal(listing, [plain(rows[-1]._mapping[_column(name)]) for name in names]) if more else None
    return UiActivity(
        items=[_item(row) for row in rows],
        page=Page(next_cursor=following, has_more=more),
        facets=_facets(counted, filters),
    )


def _conditions(filters: Filters) -> list[Any]:
    conditions: list[Any] = []
    if filters.q:
        conditions.append(audit.mentions(filters.q))
    if filters.created_from is not None:
        conditions.append(EVENT.occurred_at >= filters.created_from)
    if filters.created_to is not None:
        conditions.append(EVENT.occurred_at <= filters.created_to)
    return conditions


def _facets(counted: Sequence[Any], filters: Filters) -> dict[str, list[UiFacet]]:
    wanted = {"event_type": filters.event_type, "actor_type": filters.actor_type, "outcome": None}
    facets = {}
    for facet in wanted:
        numbers: Counter[str] = Counter()
        for row in counted:
            others = [name for name, value in wanted.items() if name != facet and value is not None and row._mapping[name] != value]
            if not others:
                numbers[row._mapping[facet]] += row.number
        facets[facet] = [UiFacet(value=value, count=number) for value, number in sorted(numbers.items())]
    return facets


def _item(row: Any) -> UiActivityItem:
    shown = {name: row._mapping[name] for name in UiActivityItem.model_fields if name != "summary"}
    return UiActivityItem.model_construct(**shown, summary=_summary(row))


def _summary(row: Any) -> str:
    actor = " ".join(part for part in (row.actor_type, row.actor_id) if part)
    about = " ".join(part for part in (row.resource_type, row.resource_id) if part)
    failed = f", refused: {row.error_code}" if row.error_code else "" if row.outcome == "success" else ", failed"
    return f"{actor}: {row.event_type}{f' of {about}' if about else ''}{failed}"


def _column(name: str) -> str:
    return "occurred_at" if name == "created_at" else name
