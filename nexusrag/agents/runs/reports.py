"""What the runs of a tenant come to, by the day and in all."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from nexusrag.infra.database import Work

_DAYS = (
    "select day, count(*) as runs, count(*) filter (where state in ('failed', 'interrupted')) as failed from runs "
    "where tenant_id = $1 and started_at >= $2::date::timestamp at time zone 'UTC' group by day order by day"
)
_P95 = (
    "select percentile_cont(0.95) within group (order by extract(epoch from finished_at - started_at))::float8 from runs "
    "where tenant_id = $1 and started_at >= $2::date::timestamp at time zone 'UTC' and state = 'succeeded'"
)
_CODES = (
    "select error_code as code, count(*) as runs from runs where tenant_id = $1 and error_code is not null "
    "and started_at >= $2::date::timestamp at time zone 'UTC' group by error_code order by count(*) desc, error_code limit 10"
)


@dataclass(frozen=True, slots=True)
class RunDay:
    """The runs that began on one UTC day. `failed`: those that ended badly, the cancelled not counted."""

    day: date
    runs: int
    failed: int


async def by_day(work: Work, first: date) -> list[RunDay]:
    """The days since `first` on which anything ran, the oldest first."""
    return [RunDay(row["day"], row["runs"], row["failed"]) for row in await work.raw.fetch(_DAYS, work.tenant_id, first)]


async def p95_s(work: Work, first: date) -> float | None:
    """How long 95 in 100 of the runs since `first` that succeeded took at most, in seconds."""
    seconds: float | None = await work.raw.fetchval(_P95, work.tenant_id, first)
    return seconds


async def error_codes(work: Work, first: date) -> list[tuple[str, int]]:
    """The commonest codes with which runs since `first` ended, and how often."""
    rows: list[Any] = await work.raw.fetch(_CODES, work.tenant_id, first)
    return [(row["code"], row["runs"]) for row in rows]
