"""All SQL of switches. Their table is the platform's: every process reads all of it."""

from datetime import datetime
from typing import Any

import asyncpg
import orjson

from nexusrag.infra.database import Work

# Ends are counted by the database's clock; what is left of them a process counts down by itself.
_ALL = (
    "select key, scope, forced, value::text, reason, set_by, expires_at, "
    "extract(epoch from expires_at - clock_timestamp())::float8 as left_s "
    "from flags where expires_at is null or expires_at > clock_timestamp() order by key, scope"
)
_STORE = (
    "insert into flags (key, forced, value, set_by) values ($1, false, $2::text::jsonb, $3) "
    "on conflict (key, scope, forced) do update set value = excluded.value, set_by = excluded.set_by, set_at = clock_timestamp()"
)
_FORCE = (
    "insert into flags (key, scope, forced, value, reason, set_by, expires_at) "
    "values ($1, $2, true, $3::text::jsonb, $4, $5, clock_timestamp() + make_interval(secs => $6)) "
    "on conflict (key, scope, forced) do update set value = excluded.value, reason = excluded.reason, set_by = excluded.set_by, "
    "set_at = clock_timestamp(), expires_at = excluded.expires_at returning expires_at"
)


async def everything(connection: "asyncpg.Connection[Any]") -> list[dict[str, Any]]:
    """Every flag in force, with the seconds that are left of it."""
    return [{**row, "value": orjson.loads(row["value"])} for row in await connection.fetch(_ALL)]


async def store(work: Work, key: str, value: Any, by: str) -> None:
    await work.raw.execute(_STORE, key, orjson.dumps(value).decode(), by)


async def force(work: Work, key: str, scope: str, value: Any, *, ttl_s: float, reason: str | None, by: str) -> datetime:
    """When it ends."""
    await work.raw.execute("delete from flags where expires_at < clock_timestamp() - interval '1 day'")
    ends: datetime = await work.raw.fetchval(_FORCE, key, scope, orjson.dumps(value).decode(), reason, by, float(ttl_s))
    return ends


async def lift(work: Work, key: str, scope: str) -> bool:
    """Whether there was one to lift."""
    status: str = await work.raw.execute(
        "delete from flags where key = $1 and scope = $2 and forced and expires_at > clock_timestamp()", key, scope
    )
    return not status.endswith(" 0")
