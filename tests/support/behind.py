"""A look behind the walls: rows as an administrator sees them, and what no route can do yet, such as granting."""

import asyncio
from typing import Any

from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person

CORPUS = "select 1 from corpora where tenant_id = '{}' for update"


async def rows(api: Api, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Rows of any tenant."""
    connection = await api.servers.admin()
    try:
        return [dict(row) for row in await connection.fetch(statement, *values)]
    finally:
        await connection.close()


async def count(api: Api, statement: str, *values: Any) -> int:
    """The one number that `statement` gives."""
    (row,) = await rows(api, statement, *values)
    (number,) = row.values()
    return int(number)


async def grant(
    api: Api, owner: Person, document_id: str, to: tuple[str, str], permission: str = "read", *, for_s: float | None = None
) -> None:
    """Give `to` (kind and id of a principal) a permission on a document of the owner's tenant; `for_s` seconds may be negative."""
    await rows(
        api,
        "insert into document_permissions (tenant_id, id, document_id, principal_type, principal_id, permission, expires_at) "
        "values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))",
        owner.tenant, new_id("perm"), document_id, to[0], to[1], permission, for_s,
    )  # fmt: skip


async def audited(api: Api, tenant: str, event: str) -> list[dict[str, Any]]:
    """Audit rows of one type, oldest first."""
    return await rows(api, "select * from audit_events where tenant_id = $1 and event_type = $2 order by id", tenant, event)


class Held:
    """A lock in somebody else's hand, so that a request stops in the middle of its transaction: an upload, at its corpus.

    `commit`: what the statement did stays.
    """

    def __init__(self, api: Api, tenant: str, statement: str = CORPUS, *, commit: bool = False) -> None:
        self._api, self._statement, self._commit = api, statement.format(tenant), commit

    async def __aenter__(self) -> "Held":
        self._locker = await self._api.servers.admin()
        self._transaction = self._locker.transaction()
        await self._transaction.start()
        await self._locker.execute(self._statement)
        return self

    async def waiting(self) -> int:
        """The server process of the request that waits for the lock."""
        async with asyncio.timeout(10):
            while True:
                found = await rows(
                    self._api, "select pid from pg_locks where not granted and $1 = any (pg_blocking_pids(pid)) limit 1",
                    self._locker.get_server_pid(),
                )  # fmt: skip
                if found:
                    return int(found[0]["pid"])
                await asyncio.sleep(0.01)

    async def __aexit__(self, *_: object) -> None:
        await (self._transaction.commit() if self._commit else self._transaction.rollback())
        await self._locker.close()
