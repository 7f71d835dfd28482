"""That a row is looked up by its key, also in a database that was made a minute ago and whose tables nobody has analyzed."""

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from nexusrag.infra.database import Database
from nexusrag.infra.migrate import migrate
from nexusrag.infra.urls import connect_arguments
from tests.support.installation import Servers

# Lookups by key that ask for more, where an index of what is due answers that part.
_FENCED = ("runs", "jobs")
pytestmark = pytest.mark.slow


@pytest.fixture
async def fresh(servers: Servers, empty: str) -> AsyncIterator[Database]:
    """A migrated database that nobody has used."""
    await migrate(empty)
    database = Database(servers.with_env(DATABASE_URL=empty).stores, pool_size=1)
    yield database
    await database.close()


async def keys_of_tables(database: Database) -> dict[str, str]:
    """The column that is the key of a row, in each table whose rows belong to tenants and have a key of one column beside that."""
    async with database.work(None) as work:
        rows = await work.raw.fetch(
            "select c.relname, min(k.attname) as key from pg_class c join pg_index i on i.indrelid = c.oid and i.indisprimary "
            "join pg_attribute k on k.attrelid = c.oid and k.attnum = any (i.indkey) "
            "where c.relkind = 'r' and not c.relispartition and c.relnamespace = 'public'::regnamespace "
            "and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id') "
            "and k.attname <> 'tenant_id' group by c.relname having count(*) = 1"
        )
    return {row["relname"]: row["key"] for row in rows}


async def indexes_of(database: Database, statement: str) -> list[str]:
    """The indexes that the plan for any values reads."""
    async with database.work("t1", reads=True, options={"plan_cache_mode": "force_generic_plan"}) as work:
        await work.raw.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")  # the choice of small tables
        await work.raw.execute(f"prepare lookup as {statement}")
        plan = await work.raw.fetch("explain execute lookup (null, null)")
        await work.raw.execute("deallocate lookup")
    return re.findall(r"using (\w+) on", "\n".join(row[0] for row in plan))


async def indexes_by(database: Database, column: str) -> set[str]:
    """The unique indexes over `column`, with or without the tenant: one over another column would read all of the tenant's rows."""
    async with database.work(None) as work:
        rows = await work.raw.fetch(
            "select i.indexrelid::regclass::text from pg_index i join pg_attribute k on k.attrelid = i.indexrelid "
            "where i.indisunique and i.indpred is null group by 1 "
            "having bool_or(k.attname = $1) and bool_and(k.attname in ('tenant_id', $1))",
            column,
        )
    return {row[0] for row in rows}


async def not_by_key(database: Database, table: str, column: str, more: str = "") -> list[str] | None:
    """The indexes that a lookup by the key reads, unless they are the key's."""
    used = await indexes_of(database, f"select * from {table} where tenant_id = $1 and {column} = $2{more}")
    return None if used and set(used) <= await indexes_by(database, column) else used


async def test_a_row_is_looked_up_by_its_key(fresh: Database) -> None:
    async with fresh.work(None) as work:
        if await work.raw.fetchval("select current_setting('server_version_num')::integer") < 180_000:
            pytest.skip("the planner of PostgreSQL before 18 cannot be told what it does not know")
    keys = await keys_of_tables(fresh)
    assert {"ledger", "runs", "documents", "jobs"} <= keys.keys()
    wrong: dict[str, list[str]] = {}
    for table, column in keys.items():
        for more in ("", " and state = 'running'") if table in _FENCED else ("",):
            used = await not_by_key(fresh, table, column, more)
            if used is not None:
                wrong[table + more] = used
    assert wrong == {}


async def test_an_index_of_something_else_is_told_also_if_it_is_unique(fresh: Database, empty: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(empty))
    await connection.execute(
        "create table planted (tenant_id text, id text, other text, unique (tenant_id, other)); grant select on planted to public"
    )
    await connection.close()
    assert await not_by_key(fresh, "planted", "other") is None
    assert await not_by_key(fresh, "planted", "id") == ["planted_tenant_id_other_key"]


async def test_what_is_due_is_found_by_its_index(fresh: Database) -> None:
    async with fresh.work(None) as work:
        await work.raw.execute("set local enable_seqscan = off")
        for table in _FENCED:
            plan = await work.raw.fetch(f"explain select id from {table} where state = 'running' and leased_until < clock_timestamp()")
            assert f"{table}_running" in "\n".join(row[0] for row in plan)
