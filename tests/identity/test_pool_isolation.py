"""Pooled connections: whoever used one before, and however they left it, the next tenant sees its own rows alone."""

import asyncio
import random
from functools import partial
from typing import Any

import pytest

from nexusrag.infra.database import Database
from nexusrag.settings import Settings
from tests.support.api import Api, Person
from tests.support.processes import until

pytestmark = pytest.mark.slow
REQUESTS = 500


async def on_every_connection(database: Database) -> list[dict[str, Any]]:
    """What each pooled connection still holds."""
    found = []
    taken, database.pool.idle[:] = database.pool.idle[:], []  # so that nobody else of this process uses them meanwhile
    try:
        for driver in [pooled.raw for pooled in taken]:
            found.append(
                {
                    "pid": driver.get_server_pid(),
                    "tenant": await driver.fetchval("select current_setting('app.tenant', true)"),
                    "role": await driver.fetchval("select current_user"),
                    "open": driver.is_in_transaction(),
                }
            )
    finally:
        database.pool.idle[:0] = taken
    return found


async def no_read_is_open(database: Database) -> bool:
    return not any(pooled.is_open for pooled in database.pool.idle)


async def test_nothing_is_carried_over_between_tenants(api: Api) -> None:
    people = [await api.person(), await api.person()]
    for person in people:
        await person.corpus()
    database, chance = api.resources.get(Database), random.Random(7)
    seen: list[tuple[str, set[str]]] = []

    async def straight(person: Person) -> None:
        async with database.work(person.tenant, reads=chance.random() < 0.5) as work:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            seen.append((person.tenant, {row["tenant_id"] for row in await work.raw.fetch("select tenant_id from corpora")}))
            await work.set_options({"hnsw.ef_search": "77"})
            if chance.random() < 0.1:
                raise RuntimeError("given up")

    async def over_http(person: Person) -> None:
        answer = await person.get("/v1/corpora")
        seen.append((person.tenant, {row["tenant_id"] for row in answer.json()["data"]}))

    async def maybe_cancelled(work: Any, patience: int) -> None:
        task = asyncio.create_task(work)
        for _ in range(patience):
            await asyncio.sleep(0)
        if chance.random() < 0.4:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for _ in range(REQUESTS // 20):
        batch = [
            maybe_cancelled((straight if chance.random() < 0.8 else over_http)(chance.choice(people)), chance.randrange(40))
            for _ in range(20)
        ]
        await asyncio.gather(*batch)
    assert len(seen) > REQUESTS / 4
    assert all(tenants == {tenant} for tenant, tenants in seen)
    stores = api.resources.get(Settings).stores
    await until(partial(no_read_is_open, database))
    found = await on_every_connection(database)
    assert 1 < len({one["pid"] for one in found}) == len(found) <= stores.api_db_pool_size + stores.api_db_max_overflow
    assert {(one["tenant"] or None, one["role"], one["open"]) for one in found} == {(None, "nexusrag_app", False)}
    async with database.work(people[0].tenant) as work:
        assert await work.raw.fetchval("select current_setting('hnsw.ef_search', true)") != "77"


async def test_what_was_set_for_a_whole_session_is_gone_with_the_next_transaction(api: Api) -> None:
    person = await api.person()
    await person.corpus()
    alone = Database(api.servers.settings.stores, pool_size=1)
    try:
        async with alone.work(person.tenant) as work:
            await work.raw.execute("set hnsw.ef_search = 77; set search_path = pg_catalog; set statement_timeout = 1")
        async with alone.work(None) as work:
            assert await work.raw.fetchval("select current_setting('hnsw.ef_search')") != "77"
            assert await work.raw.fetchval("select count(*) from corpora") == 0
        async with alone.work(person.tenant) as work:
            assert await work.raw.fetchval("select count(*) from corpora") == 1
    finally:
        await alone.close()
