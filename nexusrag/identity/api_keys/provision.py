"""Keys made and revoked by the command line. Uses the driver alone: a command has half a second, and imports count."""

from datetime import datetime
from typing import Any

import asyncpg

from nexusrag.identity.api_keys.format import keyed_hash, mint
from nexusrag.kernel.ids import is_tenant_id, new_id

_AUDIT = (
    "insert into audit_events (tenant_id, actor_type, actor_id, event_type, outcome, resource_type, resource_id, metadata) "
    "values ($1, 'cli', 'cli', $2, 'success', 'api_key', $3, $4::text::jsonb)"
)


async def create_key(
    connection: "asyncpg.Connection[Any]", *, pepper: str, tenant: str, role: str, name: str, expires_at: datetime | None = None
) -> dict[str, str]:
    """Make a user and its key in `tenant`, which is made as well when it is new (the first one becomes the home tenant).

    Returns key_id, api_key (shown this once), user_id, tenant_id, role. Raises ValueError for a bad tenant id.
    """
    if not is_tenant_id(tenant):
        raise ValueError(
            f"{tenant!r} is not a tenant id: lower-case letters, digits, '-' and '_', at most 63, starting with a letter or digit"
        )
    key_id, user_id = new_id("key"), new_id("usr")
    minted = mint("api", key_id)
    async with connection.transaction():
        await enter(connection, tenant)
        await connection.fetchval("select tenant_ensure($1, $1)", tenant)
        await connection.execute(
            "insert into users (tenant_id, id, external_subject, display_name, role) values ($1, $2, $2, $3, $4)",
            tenant,
            user_id,
            name,
            role,
        )
        await connection.execute(
            "insert into api_keys (tenant_id, id, user_id, name, role, prefix, hash, created_by, expires_at) "
            "values ($1, $2, $3, $4, $5, $6, $7, 'cli', $8)",
            tenant, key_id, user_id, name, role, minted.prefix, keyed_hash(minted.secret, pepper), expires_at,
        )  # fmt: skip
        await connection.execute(_AUDIT, tenant, "auth.api_key.created", key_id, "{}")
    return {"key_id": key_id, "api_key": minted.secret, "user_id": user_id, "tenant_id": tenant, "role": role}


async def list_keys(connection: "asyncpg.Connection[Any]", tenant: str, *, inactive_only: bool = False) -> list[dict[str, Any]]:
    """The tenant's keys, newest first, without hashes; `inactive_only`: those not used for 90 days."""
    async with connection.transaction():
        await enter(connection, tenant)
        rows = await connection.fetch(
            "select id as key_id, prefix as key_prefix, name, role, created_at, last_used_at, expires_at, revoked_at "
            "from api_keys where not $1 or coalesce(last_used_at, created_at) < now() - interval '90 days' order by created_at desc",
            inactive_only,
        )
    return [dict(row) for row in rows]


async def revoke_key(connection: "asyncpg.Connection[Any]", tenant: str, key_id: str) -> bool:
    """Revoke a key; every process drops it within a second. False when the tenant has no such key. Revoking twice is no error."""
    async with connection.transaction():
        await enter(connection, tenant)
        found = await connection.fetchval(
            "update api_keys set revoked_at = coalesce(revoked_at, now()) where tenant_id = $1 and id = $2 returning id", tenant, key_id
        )
        if found is None:
            return False
        await connection.execute("select pg_notify('nexusrag_changes', $1)", f"api_key {key_id}")
        await connection.execute(_AUDIT, tenant, "auth.api_key.revoked", key_id, "{}")
    return True


async def tenant_of_key(connection: "asyncpg.Connection[Any]", key_id: str) -> str | None:
    """The tenant of a key. For the command line's administrative login, which row-level security does not bind."""
    found: str | None = await connection.fetchval("select tenant_id from api_keys where id = $1", key_id)
    return found


async def ensure_corpus(connection: "asyncpg.Connection[Any]", tenant: str, corpus_id: str, name: str, visibility: str) -> dict[str, Any]:
    """Make a corpus on our own index unless the tenant has one with this id. Returns id, tenant_id, name, visibility, created.

    Raises ValueError for a tenant that does not exist.
    """
    async with connection.transaction():
        await enter(connection, tenant)
        if await connection.fetchval("select id from tenants where id = $1", tenant) is None:
            raise ValueError(f"There is no tenant {tenant!r}; `nexusrag keys create` makes one.")
        made = await connection.fetchval(
            "insert into corpora (tenant_id, id, name, visibility, provider_config, created_by) "
            "values ($1, $2, $3, $4, '{\"retrieval\": {\"provider\": \"local_pgvector\", \"top_k_default\": 5}}', 'cli') "
            "on conflict do nothing returning id",
            tenant, corpus_id, name, visibility,
        )  # fmt: skip
        if made is not None:
            await connection.execute(
                "insert into audit_events (tenant_id, actor_type, actor_id, event_type, outcome, resource_type, resource_id) "
                "values ($1, 'cli', 'cli', 'corpora.created', 'success', 'corpus', $2)", tenant, corpus_id,
            )  # fmt: skip
    return {"id": corpus_id, "tenant_id": tenant, "name": name, "visibility": visibility, "created": made is not None}


async def enter(connection: "asyncpg.Connection[Any]", tenant: str) -> None:
    """Act in the open transaction as the application does, inside one tenant."""
    await connection.execute("select set_config('role', 'nexusrag_app', true), set_config('app.tenant', $1, true)", tenant)
