"""Migrations: any number of runners at once, any number of times, and whole or not at all when one is killed."""

import asyncio
import sys

import asyncpg
import pytest

from nexusrag.infra.migrate import head, migrate
from nexusrag.infra.urls import connect_arguments
from tests.support.processes import until

pytestmark = pytest.mark.slow
# Whoever migrates waits here in the middle of it, while somebody else holds the lock.
HALF_WAY = """
create function half_way() returns event_trigger language plpgsql as $$ begin
    if to_regclass('public.chunks') is not null and to_regclass('public.jobs') is null then perform pg_advisory_xact_lock(7); end if;
end $$;
create event trigger half_way on ddl_command_end when tag in ('CREATE TABLE') execute function half_way();
"""
WAITING = "select count(*) > 0 from pg_locks where locktype = 'advisory' and objid = 7 and not granted"


async def test_several_at_once_and_again_reach_the_same_revision(empty: str) -> None:
    assert await asyncio.gather(*(migrate(empty) for _ in range(3))) == [head()] * 3
    assert await migrate(empty) == head()


async def test_a_runner_that_is_killed_half_way_leaves_nothing(empty: str) -> None:
    admin = await asyncpg.connect(**connect_arguments(empty))
    try:
        await admin.execute(HALF_WAY)
        await admin.execute("select pg_advisory_lock(7)")
        code = "import asyncio, sys; from nexusrag.infra.migrate import migrate; asyncio.run(migrate(sys.argv[1]))"
        runner = await asyncio.create_subprocess_exec(sys.executable, "-c", code, empty)

        async def half_way() -> bool:
            assert runner.returncode is None
            return bool(await admin.fetchval(WAITING))

        async def gone() -> bool:
            return bool(await admin.fetchval("select count(*) = 1 from pg_stat_activity where datname = current_database()"))

        await until(half_way, 30)
        runner.kill()
        await runner.wait()
        await admin.execute("select pg_advisory_unlock(7)")
        await until(gone)
        assert await admin.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
        await admin.execute("drop event trigger half_way")
    finally:
        await admin.close()
    assert await migrate(empty) == head()


@pytest.mark.parametrize(("held", "wanted"), [("tenants", "runs"), ("runs", "tenants"), ("ledger_lines", "jobs"), ("jobs", "ledger_lines")])
async def test_work_that_holds_a_table_and_wants_another_goes_on_beside_a_migration(empty: str, held: str, wanted: str) -> None:
    await migrate(empty, revision="0009")
    admin = await asyncpg.connect(**connect_arguments(empty))
    migration = None
    try:
        await admin.execute("set deadlock_timeout = '20s'")  # whoever is found in a deadlock is the migration
        async with admin.transaction():
            await admin.execute(f"select from {held} limit 1")
            migration = asyncio.create_task(migrate(empty))
            await until(lambda: admin.fetchval("select count(*) > 0 from pg_locks where relation = $1::regclass and not granted", held))
            key = "id" if wanted == "tenants" else "tenant_id"
            await admin.execute(f"update {wanted} set {key} = {key}")
        assert await migration == head()
    finally:
        if migration is not None:
            await asyncio.gather(migration, return_exceptions=True)
        await admin.close()
