"""All SQL of audit."""

from datetime import datetime
from typing import Any

import orjson

from nexusrag.infra.database import Work
from nexusrag.kernel.events import EventType

_INSERT = (
    "insert into audit_events (tenant_id, actor_type, actor_id, actor_role, event_type, outcome, resource_type, resource_id, request_id, "
    "ip_address, user_agent, metadata, error_code) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text::jsonb, $13)"
)


async def insert(work: Work, *columns: Any, metadata: dict[str, Any] | None, error_code: str | None) -> None:
    """One event; `columns` are those of the statement up to user_agent."""
    await work.raw.execute(_INSERT, *columns, None if metadata is None else orjson.dumps(metadata, default=str).decode(), error_code)


async def count(work: Work, event: EventType, since: datetime) -> int:
    """Events of one type of the transaction's tenant."""
    found: int = await work.raw.fetchval(
        "select count(*) from audit_events where tenant_id = $1 and event_type = $2 and occurred_at >= $3",
        work.tenant_id,
        event.value,
        since,
    )
    return found
