"""Tenants as the command line makes, lists and suspends them."""

from typing import Any

import asyncpg

from nexusrag.infra.commands import acting_in
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import is_tenant_id
from nexusrag.security.audit.provision import record


async def ensure(connection: "asyncpg.Connection[Any]", tenant: str, name: str | None = None) -> bool:
    """Make the tenant unless it exists; the first one becomes the home tenant. False when it was there; ValueError for a bad id."""
    if not is_tenant_id(tenant):
        raise ValueError(
            f"{tenant!r} is not a tenant id: lower-case letters, digits, '-' and '_', at most 63, starting with a letter or digit"
        )
    made: bool = await connection.fetchval("select tenant_ensure($1, $2)", tenant, name or tenant)
    if made:
        await record(connection, tenant, EventType.TENANT_CREATED, "tenant", tenant)
    return made


async def demand(connection: "asyncpg.Connection[Any]", tenant: str) -> None:
    """Raises ValueError for a tenant that does not exist. For transactions inside it."""
    if await connection.fetchval("select id from tenants where id = $1", tenant) is None:
        raise ValueError(f"There is no tenant {tenant!r}; `nexusrag tenants create {tenant}` makes it.")


async def create(connection: "asyncpg.Connection[Any]", tenant: str, name: str) -> bool:
    """False when it was there. Raises ValueError for a bad id."""
    async with acting_in(connection, tenant):
        return await ensure(connection, tenant, name)


async def list_tenants(connection: "asyncpg.Connection[Any]") -> list[dict[str, Any]]:
    """All tenants, oldest first. For the command line's administrative login, which row-level security does not bind."""
    try:
        rows = await connection.fetch("select id, name, status, is_home, created_at from tenants order by created_at, id")
    except asyncpg.InsufficientPrivilegeError as error:
        raise ValueError("This database login sees one tenant at a time; set DATABASE_MIGRATION_URL to list them all.") from error
    return [dict(row) for row in rows]


async def set_status(connection: "asyncpg.Connection[Any]", tenant: str, *, active: bool) -> None:
    """Suspend a tenant, all of whose credentials are then refused everywhere within a second, or take it back. Raises ValueError."""
    async with acting_in(connection, tenant):
        await demand(connection, tenant)
        await connection.execute("update tenants set status = $2 where id = $1", tenant, "active" if active else "suspended")
        await connection.execute("select pg_notify('nexusrag_changes', $1)", f"tenant {tenant}")
        await record(connection, tenant, EventType.TENANT_ACTIVATED if active else EventType.TENANT_SUSPENDED, "tenant", tenant)
