"""Users as the command line makes and changes them. It asks for no second admin and for no last one: it is the way back in."""

from typing import Any

import asyncpg

from nexusrag.identity.tenants import provision as tenants
from nexusrag.infra.commands import acting_in
from nexusrag.kernel.actions import Role
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.security.audit.provision import record


async def create(connection: "asyncpg.Connection[Any]", tenant: str, name: str, role: str) -> str:
    """Make a user for a key; its id."""
    user_id = new_id("usr")
    await connection.execute(
        "insert into users (tenant_id, id, external_subject, display_name, role, service) values ($1, $2, $2, $3, $4, true)",
        tenant,
        user_id,
        name,
        role,
    )
    return user_id


async def list_users(connection: "asyncpg.Connection[Any]", tenant: str) -> list[dict[str, Any]]:
    """The tenant's people and services, newest first. Raises ValueError for an unknown tenant."""
    async with acting_in(connection, tenant):
        await tenants.demand(connection, tenant)
        rows = await connection.fetch(
            "select id, status, role, custom_role_id as custom_role, service, email, display_name, last_login_at, created_at from users "
            "where tenant_id = $1 and deleted_at is null order by created_at desc, id desc",
            tenant,
        )
    return [dict(row) for row in rows]


async def set_role(connection: "asyncpg.Connection[Any]", tenant: str, user_id: str, role: str) -> bool:
    """Give a user a built-in role or one of the tenant's own. False when there is no such user; ValueError for an unknown role."""
    async with acting_in(connection, tenant):
        base = role if role in set(Role) else await connection.fetchval(
            "select base from custom_roles where tenant_id = $1 and id = $2", tenant, role
        )  # fmt: skip
        if base is None:
            raise ValueError(f"{role!r} is neither {', '.join(Role)} nor a role of the tenant {tenant!r}.")
        custom = None if role == base else role
        found = await connection.fetchval(
            "update users set role = $3, custom_role_id = $4, version = version + 1, updated_at = now() "
            "where tenant_id = $1 and id = $2 and deleted_at is null returning id",
            tenant, user_id, base, custom,
        )  # fmt: skip
        if found is None:
            return False
        await connection.execute(
            "update role_changes set outcome = 'replaced', decided_at = now() where tenant_id = $1 and user_id = $2 and outcome is null",
            tenant,
            user_id,
        )
        await _changed(connection, tenant, user_id, EventType.IDENTITY_ROLE_CHANGED, {"role": base, "custom_role": custom})
    return True


async def set_active(connection: "asyncpg.Connection[Any]", tenant: str, user_id: str, *, active: bool) -> bool:
    """Enable or disable a user, whose logins end then. False when there is no such user."""
    async with acting_in(connection, tenant):
        found = await connection.fetchval(
            "update users set status = $3, version = version + 1, updated_at = now() "
            "where tenant_id = $1 and id = $2 and deleted_at is null returning id",
            tenant,
            user_id,
            "active" if active else "disabled",
        )
        if found is None:
            return False
        if not active:
            await connection.execute(
                "update auth_sessions set revoked_at = now() where tenant_id = $1 and user_id = $2 and revoked_at is null", tenant, user_id
            )
        event = EventType.IDENTITY_USER_ENABLED if active else EventType.IDENTITY_USER_DISABLED
        await _changed(connection, tenant, user_id, event, {})
    return True


async def _changed(connection: "asyncpg.Connection[Any]", tenant: str, user_id: str, event: EventType, metadata: dict[str, Any]) -> None:
    await connection.execute("select pg_notify('nexusrag_changes', $1)", f"person {tenant}/{user_id}")
    await record(connection, tenant, event, "user", user_id, metadata)
