"""Keys made, rotated and revoked by the command line. Uses the driver alone: a command has half a second, and imports count."""

from datetime import datetime, timedelta
from typing import Any

import asyncpg

from nexusrag.access.permissions.provision import hand_over
from nexusrag.identity.tenants import provision as tenants
from nexusrag.identity.users import provision as users
from nexusrag.infra.commands import acting_in
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import keyed_hash, mint
from nexusrag.security.audit.provision import record


async def create_key(
    connection: "asyncpg.Connection[Any]", *, pepper: str, tenant: str, role: str, name: str, expires_at: datetime | None = None
) -> dict[str, str]:
    """Make a user and its key in `tenant`, which is made as well when it is new (the first one becomes the home tenant).

    Returns key_id, api_key (shown this once), user_id, tenant_id, role. Raises ValueError for a bad tenant id.
    """
    key_id = new_id("key")
    minted = mint("api", key_id)
    async with acting_in(connection, tenant):
        await tenants.ensure(connection, tenant)
        user_id = await users.create(connection, tenant, name, role)
        await connection.execute(
            "insert into api_keys (tenant_id, id, user_id, name, role, prefix, hash, created_by, expires_at) "
            "values ($1, $2, $3, $4, $5, $6, $7, 'cli', $8)",
            tenant, key_id, user_id, name, role, minted.prefix, keyed_hash(minted.secret, pepper), expires_at,
        )  # fmt: skip
        await record(connection, tenant, EventType.API_KEY_CREATED, "api_key", key_id)
    return {"key_id": key_id, "api_key": minted.secret, "user_id": user_id, "tenant_id": tenant, "role": role}


async def list_keys(connection: "asyncpg.Connection[Any]", tenant: str, *, inactive_days: int | None = None) -> list[dict[str, Any]]:
    """The tenant's keys, newest first, without hashes; with `inactive_days` those not used for so long and not revoked."""
    async with acting_in(connection, tenant):
        rows = await connection.fetch(
            "select id as key_id, prefix as key_prefix, name, role, custom_role_id as custom_role, user_id, created_at, last_used_at, "
            "expires_at, revoked_at, replaced_by from api_keys where tenant_id = $1 and ($2::int is null or revoked_at is null "
            "and coalesce(last_used_at, created_at) <= now() - make_interval(days => $2)) order by created_at desc, id desc",
            tenant,
            inactive_days,
        )
    return [dict(row) for row in rows]


async def revoke_key(connection: "asyncpg.Connection[Any]", tenant: str, key_id: str) -> bool:
    """Revoke a key; every process drops it within a second. False when the tenant has no such key. Revoking twice is no error."""
    async with acting_in(connection, tenant):
        found = await connection.fetchval(
            "update api_keys set revoked_at = coalesce(revoked_at, now()), custom_role_id = null "
            "where tenant_id = $1 and id = $2 returning id",
            tenant,
            key_id,
        )
        if found is None:
            return False
        await connection.execute("select pg_notify('nexusrag_changes', $1)", f"credential {key_id}")
        await record(connection, tenant, EventType.API_KEY_REVOKED, "api_key", key_id)
    return True


async def rotate_key(
    connection: "asyncpg.Connection[Any]", *, pepper: str, tenant: str, key_id: str, grace: timedelta | None
) -> dict[str, Any] | None:
    """Make a key in place of another, which works on for `grace`, or as long as it would have (None).

    Returns what `create_key` does with `replaces` and `old_key_expires_at`, or None when the tenant has no such key. Raises
    ValueError for a key that is dead or was replaced before.
    """
    new = new_id("key")
    minted = mint("api", new)
    async with acting_in(connection, tenant):
        old = await connection.fetchrow(
            "select revoked_at is not null or coalesce(expires_at <= now(), false) as dead, replaced_by, user_id, role "
            "from api_keys where tenant_id = $1 and id = $2 for update",
            tenant,
            key_id,
        )
        if old is None:
            return None
        if old["dead"]:
            raise ValueError("This key does not work any more; make a new one with `nexusrag keys create`.")
        if old["replaced_by"] is not None:
            raise ValueError(f"This key was replaced by {old['replaced_by']}; rotate that one.")
        await connection.execute(
            "insert into api_keys (tenant_id, id, user_id, name, role, custom_role_id, prefix, hash, created_by, expires_at) "
            "select tenant_id, $3, user_id, name, role, custom_role_id, $4, $5, 'cli', "
            "case when expires_at is not null then now() + least(expires_at - created_at, interval '36525 days') end "
            "from api_keys where tenant_id = $1 and id = $2",
            tenant, key_id, new, minted.prefix, keyed_hash(minted.secret, pepper),
        )  # fmt: skip
        ends = await connection.fetchval(
            "update api_keys set replaced_by = $3, expires_at = least(expires_at, now() + $4::interval) "
            "where tenant_id = $1 and id = $2 returning expires_at",
            tenant, key_id, new, grace,
        )  # fmt: skip
        await hand_over(connection, tenant, key_id, new)
        await connection.execute("select pg_notify('nexusrag_changes', $1)", f"credential {key_id}")
        await record(connection, tenant, EventType.API_KEY_ROTATED, "api_key", key_id, {"replaced_by": new})
    shown = {"key_id": new, "api_key": minted.secret, "user_id": old["user_id"], "tenant_id": tenant, "role": old["role"]}
    return {**shown, "replaces": key_id, "old_key_expires_at": ends}


async def tenant_of_key(connection: "asyncpg.Connection[Any]", key_id: str) -> str | None:
    """The tenant of a key. For the command line's administrative login, which row-level security does not bind."""
    found: str | None = await connection.fetchval("select tenant_id from api_keys where id = $1", key_id)
    return found
