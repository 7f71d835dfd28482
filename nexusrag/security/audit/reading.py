"""The log as it is read: a tenant's events by any order and filter, and how many there are of each kind."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Text, column, func, select, table

from nexusrag.infra.database import Work
from nexusrag.infra.keyset import Order, behind
from nexusrag.infra.models import Moment

# Counting looks at the newest so many, so that a long log does not make a listing slow.
COUNTED = 10_000
_EVENTS = table(
    "audit_events",
    column("id", BigInteger),
    column("occurred_at", Moment),
    *(
        column(name, Text)
        for name in (
            "tenant_id", "event_type", "outcome", "actor_type", "actor_id", "resource_type", "resource_id", "request_id", "error_code",
        )
    ),
)  # fmt: skip
# The log's columns, to write conditions with.
EVENT = _EVENTS.c
Condition = ColumnElement[bool]


def mentions(words: str) -> Condition:
    """Events whose type, actor, resource or request contains `words`, whatever those are made of."""
    pattern = "%" + words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    found: Condition = EVENT.event_type.ilike(pattern, escape="\\")
    for name in (EVENT.actor_id, EVENT.resource_type, EVENT.resource_id, EVENT.request_id):
        found = found | name.ilike(pattern, escape="\\")
    return found


async def page(work: Work, *conditions: Condition, order: Order, after: Sequence[Any] | None, limit: int) -> list[Any]:
    """Up to `limit` events of the transaction's tenant, in `order`, from behind the position `after`."""
    statement = select(_EVENTS).where(EVENT.tenant_id == work.tenant_id, *conditions)
    if after is not None:
        statement = statement.where(behind(order, after))
    statement = statement.order_by(*(one.desc() if descending else one.asc() for one, descending in order)).limit(limit)
    return list((await work.connection.execute(statement)).all())


async def kinds(work: Work, *conditions: Condition) -> list[Any]:
    """`event_type`, `actor_type`, `outcome` and `number` of the newest COUNTED events that meet the conditions."""
    newest = (
        select(EVENT.event_type, EVENT.actor_type, EVENT.outcome)
        .where(EVENT.tenant_id == work.tenant_id, *conditions)
        .order_by(EVENT.occurred_at.desc(), EVENT.id.desc())
        .limit(COUNTED)
        .subquery()
    )
    statement = select(newest, func.count().label("number")).group_by(*newest.c)
    return list((await work.connection.execute(statement)).all())
