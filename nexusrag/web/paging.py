"""Pages of listings that stand newest first: by the time of creation, then by id."""

from typing import Any

from sqlalchemy import Select, tuple_

from nexusrag.kernel import clock
from nexusrag.web.call import CallContext
from nexusrag.web.cursors import Cursors
from nexusrag.web.envelope import Page

LARGEST = 1000


async def newest_first(
    call: CallContext, statement: Select[Any], entity: type[Any], *, listing: str, limit: int, cursor: str | None
) -> tuple[list[Any], Page]:
    """Up to `limit` rows of `statement`, whose first column is `entity`, from where `cursor` left off.

    `listing` names the route and whatever filters it. Raises INVALID_CURSOR for a cursor of another listing or caller.
    """
    cursors = call.of(Cursors)
    listing = f"{listing}/{call.tenant_id}/{call.principal.subject_id}"
    if cursor is not None:
        created_at, last = cursors.open(listing, cursor)
        statement = statement.where(tuple_(entity.created_at, entity.id) < tuple_(clock.parse(created_at), last))
    statement = statement.order_by(entity.created_at.desc(), entity.id.desc()).limit(limit + 1)
    rows = list((await call.session.execute(statement)).all())
    if len(rows) <= limit:
        return rows, Page()
    last_row = rows[limit - 1][0]
    return rows[:limit], Page(next_cursor=cursors.seal(listing, [last_row.created_at.isoformat(), last_row.id]), has_more=True)
