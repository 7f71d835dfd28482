"""A transaction sees one tenant or none, whatever became of the connection's earlier users."""

import asyncio
import random

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from nexusrag.infra.database import Database, Work, contended, unreachable
from nexusrag.kernel.errors import ApiError, ErrorCode
from tests.support.installation import Servers
from tests.support.processes import database_proxy, until
from tests.support.queues import Queue

SEES = "select current_setting('app.tenant'), current_user"


async def seen_by(work: Work) -> tuple[str, str]:
    """Tenant and role of the transaction."""
    row = await work.raw.fetchrow(SEES)
    assert row is not None
    return row[0], row[1]


async def test_a_transaction_acts_as_the_application_in_one_tenant(queue: Queue) -> None:
    async with queue.resources.get(Database).work("tenant-a") as work:
        assert await seen_by(work) == ("tenant-a", "nexusrag_app")
    async with queue.resources.get(Database).work(None) as work:
        assert await seen_by(work) == ("", "nexusrag_app")


@pytest.mark.parametrize("name", ["", "T", "a b", "a'; drop table jobs; --", "ä", "x" * 64, "a\n"])
async def test_what_is_no_tenant_id_never_reaches_the_database(queue: Queue, name: str) -> None:
    with pytest.raises(ValueError, match="tenant"):
        async with queue.resources.get(Database).work(name):
            pass


async def test_what_an_earlier_user_of_the_connection_set_is_gone(servers: Servers) -> None:
    database = Database(servers.with_env().stores, pool_size=1)
    try:
        for following in (None, "tenant-b"):
            async with database.work("tenant-a") as work:
                await work.raw.execute("select set_config('app.tenant', 'tenant-a', false)")
                await work.raw.execute("set statement_timeout = 1")
            async with database.work(following) as work:
                assert (await seen_by(work))[0] == (following or "")
                assert await work.raw.fetchval("show statement_timeout") != "1ms"
    finally:
        await database.close()


async def test_connections_of_a_peak_are_kept_for_the_next_and_then_closed(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = servers.with_env(API_DB_POOL_SIZE="1", API_DB_MAX_OVERFLOW="2").stores
    database = Database(stores)

    async def peak() -> set[int]:
        all_here = asyncio.Barrier(3)

        async def one() -> int:
            async with database.work(None) as work:
                await all_here.wait()
                return int(await work.raw.fetchval("select pg_backend_pid()"))

        return set(await asyncio.gather(*(one() for _ in range(3))))

    try:
        first = await peak()
        assert await peak() == first
        monkeypatch.setattr("nexusrag.infra.pool._SPARE_S", 0.0)
        await peak()
        monkeypatch.undo()
        assert len(await peak() & first) == 1
    finally:
        await database.close()


async def test_whoever_is_cancelled_twice_gives_the_connection_back_whole(servers: Servers) -> None:
    database = Database(servers.with_env().stores, pool_size=1)
    begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def sleep() -> None:
        async with database.work(None) as work:
            begun.set_result(await work.raw.fetchval("select pg_backend_pid()"))
            await work.raw.execute("select pg_sleep(60)")

    try:
        task = asyncio.create_task(sleep())
        await begun
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        async with database.work(None) as work:
            assert await work.raw.fetchval("select pg_backend_pid()") == begun.result()
    finally:
        await database.close()


async def test_a_cancel_storm_leaves_every_transaction_its_own_tenant(servers: Servers) -> None:
    database = Database(servers.with_env().stores, pool_size=4)
    chance = random.Random(7)
    wrong: list[object] = []

    async def look(number: int) -> None:
        tenant = f"tenant-{number % 7}"
        async with database.work(tenant, reads=number % 2 == 0) as work:
            for _ in range(3):
                seen = (await seen_by(work))[0]
                if seen != tenant:
                    wrong.append((tenant, seen))

    async def disturbed(number: int) -> None:
        task = asyncio.create_task(look(number))
        if chance.random() < 0.4:
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
            wrong.append(outcome)

    try:
        await asyncio.gather(*(disturbed(number) for number in range(300)))
        assert wrong == []
        await asyncio.gather(*(look(number) for number in range(20)))  # every connection is still of use
        assert wrong == []
    finally:
        await database.close()


async def test_a_transaction_that_reads_cannot_write(queue: Queue) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with queue.resources.get(Database).work("tenant-a", reads=True) as work:
            await work.raw.execute("insert into workers (id, queue) values ($1, 'x')", queue.name)


async def test_a_transaction_that_read_is_ended_by_the_next_or_by_itself(servers: Servers) -> None:
    database = Database(servers.with_env().stores, pool_size=1)
    try:
        async with database.work("tenant-a", reads=True) as work:
            pid = await work.raw.fetchval("select pg_backend_pid()")
            begun = await work.raw.fetchval("select now()")
        async with database.work("tenant-b", reads=True) as work:
            assert await seen_by(work) == ("tenant-b", "nexusrag_app")
            assert await work.raw.fetchval("select pg_backend_pid()") == pid
            assert await work.raw.fetchval("select now()") > begun
        async with database.work("tenant-a") as work:
            assert await work.raw.fetchval("show transaction_read_only") == "off"
        async with database.work("tenant-a", reads=True):
            pass
        (pooled,) = database.pool.idle
        assert pooled.raw.is_in_transaction()

        async def ended() -> bool:
            return not pooled.raw.is_in_transaction() and database.pool.idle == [pooled]

        await until(ended)
        assert not pooled.is_open
    finally:
        await database.close()


async def test_a_read_whose_connection_was_lost_after_it_harms_nobody(servers: Servers) -> None:
    database, admin = Database(servers.with_env().stores, pool_size=1), await servers.admin()
    try:
        for waits in (False, True):  # for the next user to find, or for the end of the read
            async with database.work("tenant-a", reads=True) as work:
                pid = await work.raw.fetchval("select pg_backend_pid()")
            await admin.execute("select pg_terminate_backend($1, 5000)", pid)
            if waits:

                async def over() -> bool:
                    return database.pool.idle == []

                await until(over)
            async with database.work("tenant-b") as work:
                assert await seen_by(work) == ("tenant-b", "nexusrag_app")
    finally:
        await admin.close()
        await database.close()


async def test_an_exception_rolls_everything_back(queue: Queue) -> None:
    with pytest.raises(KeyError):
        async with queue.resources.get(Database).work("tenant-a") as work:
            await work.raw.execute("insert into workers (id, queue) values ($1, 'x')", queue.name)
            raise KeyError
    assert await queue.sql("select 1 from workers where id = $1", queue.name) == []


async def test_a_swallowed_error_of_the_database_is_not_taken_for_a_commit(queue: Queue) -> None:
    with pytest.raises(RuntimeError, match="ROLLBACK"):
        async with queue.resources.get(Database).work("tenant-a") as work:
            await work.raw.execute("insert into workers (id, queue) values ($1, 'x')", queue.name)
            with pytest.raises(asyncpg.DivisionByZeroError):
                await work.raw.execute("select 1 / 0")
    assert await queue.sql("select 1 from workers where id = $1", queue.name) == []


async def test_the_first_transaction_after_all_connections_were_lost_works(servers: Servers, queue: Queue) -> None:
    database = Database(servers.with_env().stores, pool_size=4)

    async def look() -> None:
        async with database.work("tenant-a") as work:
            await work.raw.fetchval("select pg_sleep(0.01)")

    try:
        for _ in range(3):
            await asyncio.gather(*(look() for _ in range(4)))
            await queue.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'nexusrag'")
            await look()
    finally:
        await database.close()


async def test_a_database_that_is_away_is_said_to_be_away(servers: Servers) -> None:
    async with database_proxy(servers) as (proxy, url):
        database = Database(servers.with_env(DATABASE_URL=url).stores, pool_size=1)
        try:
            async with database.work("tenant-a"):
                pass
            proxy.refusing = True
            with pytest.raises(ApiError) as lost:
                async with database.work("tenant-a") as work:
                    proxy.cut()
                    await work.raw.execute("select 1")
            with pytest.raises(ApiError) as away:
                async with database.work("tenant-a"):
                    pass
            assert {lost.value.code, away.value.code} == {ErrorCode.SERVICE_UNAVAILABLE}
            proxy.refusing = False
            async with database.work("tenant-a"):
                pass
        finally:
            await database.close()


async def test_a_database_that_hangs_is_given_up(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexusrag.infra.pool._PATIENCE_S", 0.3)
    async with database_proxy(servers) as (proxy, url):
        database = Database(servers.with_env(DATABASE_URL=url).stores, pool_size=1)

        async def look() -> None:
            async with database.work("tenant-a"):
                pass

        try:
            await look()
            proxy.answering.clear()
            async with asyncio.timeout(10):
                outcomes = await asyncio.gather(*(look() for _ in range(3)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ApiError] * 3
            proxy.answering.set()
            await look()
        finally:
            await database.close()


async def test_those_who_wait_for_a_connection_that_cannot_be_made_are_told_at_once(servers: Servers) -> None:
    async with database_proxy(servers) as (proxy, url):
        database = Database(servers.with_env(DATABASE_URL=url).stores, pool_size=2)
        proxy.refusing = True

        async def look() -> None:
            async with database.work("tenant-a"):
                pass

        try:
            async with asyncio.timeout(5):
                outcomes = await asyncio.gather(*(look() for _ in range(12)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ApiError] * 12
            proxy.refusing = False
            await asyncio.gather(*(look() for _ in range(12)))
        finally:
            await database.close()


def test_a_wrong_statement_is_not_taken_for_a_lost_database() -> None:
    assert not unreachable(asyncpg.UniqueViolationError())
    assert not unreachable(ValueError())
    assert unreachable(ConnectionResetError())


def test_what_may_succeed_the_next_time_is_told_apart() -> None:
    assert contended(asyncpg.DeadlockDetectedError())
    assert contended(DBAPIError("", None, asyncpg.QueryCanceledError()))
    assert not contended(DBAPIError("", None, asyncpg.UniqueViolationError()))
    assert not contended(TimeoutError())
