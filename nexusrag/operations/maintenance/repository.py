"""All SQL of maintenance. What removes rows of all tenants are the reviewed functions of the migration, some rows at a time."""

from datetime import datetime
from typing import Any

from nexusrag.infra.database import Work

_BEGIN = (
    "insert into maintenance_runs (task, started_by, leased_until) "
    "select $1, $2, clock_timestamp() + make_interval(secs => $3) where not exists "
    "(select 1 from maintenance_runs where task = $1 and state = 'running' and leased_until > clock_timestamp()) returning id"
)
# Due once after each day's moment: when nobody has done it since, nobody is at it, and it did not fail within the last hour.
_DUE = (
    "select not exists (select 1 from maintenance_runs where task = $1 and ("
    "(state = 'succeeded' and started_at >= $2) or (state = 'running' and leased_until > clock_timestamp()) "
    "or (state = 'failed' and started_at > clock_timestamp() - interval '1 hour')))"
)
# The last moment at which the clock showed this hour in UTC.
_LAST_SLOT = "select date_trunc('day', clock_timestamp() - make_interval(hours => $1), 'UTC') + make_interval(hours => $1)"


async def last_slot(work: Work, hour: int) -> datetime:
    slot: datetime = await work.raw.fetchval(_LAST_SLOT, hour)
    return slot


async def is_due(work: Work, task: str, since: datetime) -> bool:
    due: bool = await work.raw.fetchval(_DUE, task, since)
    return due


async def begin(work: Work, task: str, by: str | None, lease_s: float, *, unless_since: datetime | None = None) -> int | None:
    """The new run; None while another process is at the same task, or where it was done after `unless_since`."""
    await work.raw.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"maintenance/{task}")
    await work.raw.execute("delete from maintenance_runs where started_at < clock_timestamp() - interval '400 days'")
    if unless_since is not None and not await is_due(work, task, unless_since):
        return None
    run_id: int | None = await work.raw.fetchval(_BEGIN, task, by, lease_s)
    return run_id


async def go_on(work: Work, run_id: int, deleted: int, lease_s: float) -> None:
    await work.raw.execute(
        "update maintenance_runs set deleted_rows = $2, leased_until = clock_timestamp() + make_interval(secs => $3) where id = $1",
        run_id,
        deleted,
        lease_s,
    )


async def finish(work: Work, run_id: int, state: str, deleted: int, cause: str | None = None) -> None:
    await work.raw.execute(
        "update maintenance_runs set state = $2, deleted_rows = $3, cause = $4, finished_at = clock_timestamp() where id = $1",
        run_id,
        state,
        deleted,
        cause,
    )


async def newest(work: Work) -> list[Any]:
    """The newest run of each task. One whose process died says so."""
    rows: list[Any] = await work.raw.fetch(
        "select distinct on (task) task, started_by, started_at, finished_at, deleted_rows, cause, "
        "case when state = 'running' and leased_until < clock_timestamp() then 'failed' else state end as state "
        "from maintenance_runs order by task, started_at desc, id desc"
    )
    return rows


async def prune_idempotency(work: Work, grace_s: float, limit: int) -> int:
    return int(await work.raw.fetchval("select idempotency_prune(make_interval(secs => $1), $2)", grace_s, limit))


async def prune_audit(work: Work, days: int, limit: int) -> int:
    return int(await work.raw.fetchval("select audit_prune(make_interval(days => $1), $2)", days, limit))


async def prune_jobs(work: Work, kinds: list[str], days: int, limit: int, *, others: bool) -> int:
    """Jobs of these kinds that ended so long ago; `others`: of all but these."""
    return int(await work.raw.fetchval("select jobs_prune($1, $2, make_interval(days => $3), $4)", kinds, others, days, limit))
