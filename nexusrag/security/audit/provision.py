"""Audit of what the command line does, in the transaction of the act."""

import json
from collections.abc import Mapping
from typing import Any

import asyncpg

from nexusrag.kernel.events import EventType


async def record(
    connection: "asyncpg.Connection[Any]",
    tenant: str,
    event: EventType,
    resource_type: str,
    resource_id: str,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Add `event` to the transaction."""
    await connection.execute(
        "insert into audit_events (tenant_id, actor_type, actor_id, event_type, outcome, resource_type, resource_id, metadata) "
        "values ($1, 'cli', 'cli', $2, 'success', $3, $4, $5::text::jsonb)",
        tenant,
        event.value,
        resource_type,
        resource_id,
        json.dumps(dict(metadata or {})),
    )
