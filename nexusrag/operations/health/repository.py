"""All SQL of health."""

from typing import Any

from nexusrag.infra.database import Work


async def heartbeat_age_s(work: Work) -> float | None:
    """Seconds since any worker last reported, None when none ever did."""
    age: float | None = await work.raw.fetchval("select extract(epoch from clock_timestamp() - max(heartbeat_at))::float8 from workers")
    return age


async def depth(work: Work, queue: str) -> Any:
    return await work.raw.fetchrow("select * from jobs_depth($1)", queue)


async def documents_by_status(work: Work, hours: int) -> dict[str, int]:
    rows = await work.raw.fetch(
        "select status, count(*) as n from documents where tenant_id = $1 "
        "and updated_at > now() - make_interval(hours => $2) group by status",
        work.tenant_id,
        hours,
    )
    return {row["status"]: row["n"] for row in rows}


async def durations(work: Work, hours: int) -> Any:
    return await work.raw.fetchrow(
        "select percentile_cont(0.5) within group (order by s)::float8 as p50, "
        "percentile_cont(0.95) within group (order by s)::float8 as p95 "
        "from (select extract(epoch from completed_at - queued_at) as s from documents where tenant_id = $1 and status = 'succeeded' "
        "and completed_at > now() - make_interval(hours => $2)) d",
        work.tenant_id,
        hours,
    )


async def failures(work: Work, hours: int) -> list[dict[str, Any]]:
    """The newest failed documents with their reasons."""
    rows = await work.raw.fetch(
        "select id as document_id, failure_reason, completed_at from documents where tenant_id = $1 and status = 'failed' "
        "and updated_at > now() - make_interval(hours => $2) order by updated_at desc limit 20",
        work.tenant_id,
        hours,
    )
    return [dict(row) for row in rows]
