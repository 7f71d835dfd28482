"""Brings a database to the schema of this release: roles, extension, then the alembic migrations, one runner at a time."""

import asyncio
from pathlib import Path

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from alembic import command, context
from nexusrag.infra.database import APP_ROLE
from nexusrag.infra.urls import connect_arguments

SYSTEM_ROLE = "nexusrag_system"
DIRECTORY = Path(__file__).resolve().parents[2] / "alembic"
_LOCK = 0x6E65787573  # "nexus"

# The roles belong to the server, not to the database, so another database may have made them already.
_PREPARE = f"""
do $$ begin
    create role {APP_ROLE} nologin;
exception when duplicate_object or unique_violation then null; end $$;
do $$ begin
    create role {SYSTEM_ROLE} nologin;
exception when duplicate_object or unique_violation then null; end $$;
do $$ begin
    if not (select rolsuper from pg_roles where rolname = current_user) then
        execute format('grant {APP_ROLE}, {SYSTEM_ROLE} to %I', current_user);
    end if;
    if exists (select 1 from pg_roles where rolname = 'nexusrag_login') then
        grant {APP_ROLE} to nexusrag_login;
    end if;
end $$;
grant usage on schema public to {APP_ROLE};
grant usage, create on schema public to {SYSTEM_ROLE};
create extension if not exists vector;
"""


async def migrate(url: str, *, revision: str = "head") -> str:
    """Migrate the database at `url`, whose login may create roles and extensions. Returns the revision reached."""
    arguments = connect_arguments(url)
    guard = await asyncpg.connect(**arguments, timeout=30)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(**arguments), poolclass=NullPool)
    try:
        await guard.execute(f"select pg_advisory_lock({_LOCK})")
        await guard.execute(_PREPARE)
        config = configuration()
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, config, revision)
        await guard.execute(f"grant select on alembic_version to {APP_ROLE}")
        await guard.execute("select partitions_roll(interval '1 day')")
        return str(await guard.fetchval("select version_num from alembic_version"))
    finally:
        await engine.dispose()
        await asyncio.shield(guard.close())


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY))
    return config


def head() -> str:
    """The newest revision that this release knows."""
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


def run_from_alembic() -> None:
    """The body of alembic/env.py."""
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is None:
        raise RuntimeError("Migrations run through `nexusrag migrate`.")
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        # What is made belongs to the system role, under which the SECURITY DEFINER functions run.
        connection.execute(text(f"set local role {SYSTEM_ROLE}"))
        context.run_migrations()


def _upgrade(connection: Connection, config: Config, revision: str) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
