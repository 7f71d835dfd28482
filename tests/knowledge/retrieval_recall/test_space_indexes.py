"""The index of a space: made at once beside few vectors, else built beside the work; until then searches compare all vectors."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import numpy as np
import pytest
from rich.console import Console

from nexusrag.cli import doctor, up
from nexusrag.infra.database import Database
from nexusrag.infra.migrate import migrate
from nexusrag.infra.urls import connect_arguments
from nexusrag.kernel.ids import new_id
from nexusrag.knowledge.index.spaces import build_indexes, missing
from nexusrag.knowledge.retrieval.spaces import Spaces
from nexusrag.settings import Settings
from tests.knowledge.retrieval_recall.library import Item, Library, Shelf, caller, unit
from tests.support.installation import Servers
from tests.support.processes import until

pytestmark = pytest.mark.slow

DIMENSIONS = 16
CHUNKS = 40
DEFINITION = "select pg_get_indexdef(to_regclass('embeddings_hnsw_' || $1::int))"
# What ingestion leaves behind when it is removed again: pages.
MANY = (
    "insert into embedding_spaces (model, dimensions) values ('removed', 384)",
    "insert into embeddings (tenant_id, space_id, version_id, chunk_id, v) "
    "select 't', s.id, 1, n, array_fill(1::real, array[384])::halfvec from embedding_spaces s, generate_series(1, 24000) n "
    "where s.model = 'removed'",
    "delete from embeddings",
    "delete from embedding_spaces where model = 'removed'",
)


class Elsewhere:
    """The servers of the test, with a database of its own: building waits for every transaction that writes vectors."""

    def __init__(self, servers: Servers, name: str) -> None:
        parts = urlsplit(servers.settings.stores.database_migration_url.get_secret_value())
        self.url = urlunsplit(parts._replace(path=f"/{name}"))
        self._servers = servers

    def with_env(self, **changes: str) -> Settings:
        return self._servers.with_env(DATABASE_URL=self.url, **changes)

    async def admin(self) -> "asyncpg.Connection[Any]":
        return await asyncpg.connect(**connect_arguments(self.url))


@pytest.fixture(scope="module")
async def elsewhere(servers: Servers) -> AsyncIterator[Elsewhere]:
    admin, name = await servers.admin(), new_id("spaces")
    await admin.execute(f"create database {name}")
    held = Elsewhere(servers, name)
    await migrate(held.url)
    yield held
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()


@pytest.fixture
async def admin(elsewhere: Elsewhere) -> AsyncIterator["asyncpg.Connection[Any]"]:
    held = await elsewhere.admin()
    await held.execute("alter table embeddings set (autovacuum_enabled = false)")
    await held.execute("truncate embeddings")
    yield held
    await held.close()


@pytest.fixture
async def library(elsewhere: Elsewhere) -> AsyncIterator[Library]:
    database = Database(elsewhere.with_env().stores, pool_size=3)
    yield Library(elsewhere, database, new_id("model"), DIMENSIONS)  # type: ignore[arg-type]  # in a database of its own
    await database.close()


async def beside_many(admin: "asyncpg.Connection[Any]") -> None:
    for statement in MANY:
        await admin.execute(statement)


async def filled(library: Library) -> Shelf:
    """A corpus whose vectors are the first of their model."""
    shelf = await library.shelf(await library.tenant(), "tenant")
    texts = [f"bakard {place}" for place in range(CHUNKS)]
    await library.put(shelf, [Item("doc", texts, unit(np.random.default_rng(3), CHUNKS, DIMENSIONS))])
    return shelf


async def methods(library: Library, shelf: Shelf) -> tuple[str, bool, int]:
    """How a search of more than the exact limit was done."""
    vector = unit(np.random.default_rng(4), 1, DIMENSIONS)[0]
    found = await library.search(shelf, caller(shelf.tenant, "x"), "", vector, CHUNKS, mode="dense", RETRIEVAL_EXACT_LIMIT=0)
    return found.method, found.complete, len(found.passages)


async def test_beside_few_vectors_registering_makes_the_index_that_building_would_make(
    elsewhere: Elsewhere, library: Library, admin: "asyncpg.Connection[Any]"
) -> None:
    shelf = await filled(library)
    made = await admin.fetchval(DEFINITION, shelf.space)
    assert await missing(admin) == []
    await admin.execute(f"drop index embeddings_hnsw_{shelf.space}")
    assert await build_indexes(elsewhere.url) == [library.model]
    assert await admin.fetchval(DEFINITION, shelf.space) == made
    assert await build_indexes(elsewhere.url) == []


async def test_beside_many_vectors_all_are_compared_until_the_index_is_built(
    elsewhere: Elsewhere, library: Library, admin: "asyncpg.Connection[Any]"
) -> None:
    await beside_many(admin)
    shelf = await filled(library)
    spaces = Spaces()

    async def indexed() -> bool:
        async with library.database.work(shelf.tenant) as work:
            return (await spaces.of(work, shelf.space)).indexed

    assert await missing(admin) == [library.model]
    assert await methods(library, shelf) == ("exact", True, CHUNKS)
    assert not await indexed()
    assert await build_indexes(elsewhere.url) == [library.model]
    assert await indexed()
    assert await missing(admin) == []
    assert await methods(library, shelf) == ("index", False, CHUNKS)


async def test_registering_does_not_wait_for_those_who_are_writing(
    elsewhere: Elsewhere, library: Library, admin: "asyncpg.Connection[Any]"
) -> None:
    async with admin.transaction():
        await admin.execute("lock table embeddings in row exclusive mode")  # as an ingestion does
        async with asyncio.timeout(5):
            shelf = await filled(library)
        assert await missing(admin) == [library.model]
    assert await methods(library, shelf) == ("exact", True, CHUNKS)
    assert await build_indexes(elsewhere.url) == [library.model]


async def test_building_locks_nobody_out_and_happens_once(elsewhere: Elsewhere, library: Library, admin: "asyncpg.Connection[Any]") -> None:
    await beside_many(admin)
    shelf = await filled(library)
    async with admin.transaction():
        building = await under_way(elsewhere, admin)
        assert await build_indexes(elsewhere.url) == []
        vectors = unit(np.random.default_rng(5), 1, DIMENSIONS)
        async with asyncio.timeout(5):
            await library.put(shelf, [Item("more", ["bakard more"], vectors)])
        assert await methods(library, shelf) == ("exact", True, CHUNKS)
    assert await building == [library.model]
    assert await methods(library, shelf) == ("index", False, CHUNKS)


async def test_what_a_builder_that_died_has_left_is_built_again(
    elsewhere: Elsewhere, library: Library, admin: "asyncpg.Connection[Any]"
) -> None:
    await beside_many(admin)
    shelf = await filled(library)
    async with admin.transaction():
        building = await under_way(elsewhere, admin)
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where query like 'create index concurrently%'")
        (died,) = await asyncio.gather(building, return_exceptions=True)
        assert isinstance(died, (asyncpg.PostgresError, asyncpg.InterfaceError))
        assert await missing(admin) == [library.model]
        assert await admin.fetchval(DEFINITION, shelf.space) is not None
    assert await methods(library, shelf) == ("exact", True, CHUNKS)
    assert await build_indexes(elsewhere.url) == [library.model]
    assert await methods(library, shelf) == ("index", False, CHUNKS)


async def under_way(elsewhere: Elsewhere, admin: "asyncpg.Connection[Any]") -> "asyncio.Task[list[str]]":
    """A build that cannot be finished before the transaction of `admin`."""
    await admin.execute("lock table embeddings in row exclusive mode")
    building = asyncio.create_task(build_indexes(elsewhere.url))
    waiting = "select 1 from pg_stat_activity where query like 'create index concurrently%' and wait_event_type = 'Lock'"
    other = await elsewhere.admin()
    try:
        await until(lambda: other.fetch(waiting))
    finally:
        await other.close()
    return building


async def test_doctor_names_the_model_and_up_builds_what_is_missing(
    elsewhere: Elsewhere, library: Library, admin: "asyncpg.Connection[Any]"
) -> None:
    settings = elsewhere.with_env()
    await beside_many(admin)
    await filled(library)
    (told,) = [line for fault, line in await doctor._contents(settings) if fault]
    assert library.model in told
    assert "nexusrag migrate" in told
    keeping = asyncio.create_task(up._keep_indexed(Console(quiet=True), elsewhere.url))

    async def built() -> bool:
        return await missing(admin) == []

    await until(built)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert (False, "every embedding model has its index") in await doctor._contents(settings)
