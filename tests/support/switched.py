"""Switches set from behind, for one tenant where that is possible, so that nobody else's requests are concerned."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.flags.switches.facade import Switches
from tests.support.api import Api
from tests.support.behind import rows
from tests.support.soon import soon

_FORCE = (
    "with forced as (insert into flags (key, scope, forced, value, set_by, expires_at) "
    "values ($1, $2, true, 'true', 'test', clock_timestamp() + make_interval(secs => $3)) on conflict (key, scope, forced) "
    "do update set expires_at = excluded.expires_at returning 1) select pg_notify('nexusrag_changes', 'flags *') from forced"
)
_LIFT = (
    "with lifted as (delete from flags where key = $1 and scope = $2 and forced returning 1) "
    "select pg_notify('nexusrag_changes', 'flags *') from (select count(*) from lifted) gone"
)


@asynccontextmanager
async def forced(api: Api, key: str, scope: str = "*", ttl_s: float = 60) -> AsyncIterator[None]:
    """A forced flag that this API's process has heard of; lifted, and heard of again, on leaving."""

    async def heard() -> bool:
        return (await api.resources.get(Switches).current()).forced_for(key, scope) is not None

    await rows(api, _FORCE, key, scope, ttl_s)
    await soon(heard, True)
    try:
        yield
    finally:
        await rows(api, _LIFT, key, scope)
        await soon(heard, False)
