"""Grants where the command line touches them. Uses the driver alone."""

from typing import Any

import asyncpg


async def hand_over(connection: "asyncpg.Connection[Any]", tenant: str, old_key: str, new_key: str) -> None:
    """The key that takes another's place is granted what the other was."""
    for table, resource in (("document_permissions", "document_id"), ("corpus_permissions", "corpus_id")):
        await connection.execute(
            f"insert into {table} (tenant_id, id, {resource}, principal_type, principal_id, permission, expires_at, granted_by) "
            f"select tenant_id, 'perm_' || replace(gen_random_uuid()::text, '-', ''), {resource}, principal_type, $3, permission, "
            f"expires_at, granted_by from {table} where tenant_id = $1 and principal_type = 'api_key' and principal_id = $2",
            tenant,
            old_key,
            new_key,
        )
