"""What the ledger tells of longer spans of time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from nexusrag.billing.ledger.entries import PeriodName, Used
from nexusrag.billing.ledger.repository import PERIOD_COLUMNS, used_of
from nexusrag.infra.database import Work

Metric = Literal["requests", "runs", "tokens"]
_DAYS = (
    f"select {PERIOD_COLUMNS} from usage_periods where tenant_id = $1 and period = 'day' and starts_on between $2 and $3 order by starts_on"
)
_ENTRIES = (
    "select count(*) filter (where route_class = 'run') as runs, coalesce(sum(tokens), 0)::bigint as tokens from ledger "
    "where tenant_id = $1 and day between $2 and $3"
)
_EMBEDDED = (
    "select count(distinct subject) as entries, coalesce(sum(quantity), 0)::bigint as tokens from ledger_lines "
    "where tenant_id = $1 and day between $2 and $3 and component = 'embedding' and subject like $4"
)
_RUNS_BY_DAY = (
    "select day, count(*) as value from ledger where tenant_id = $1 and route_class = 'run' and day between $2 and $3 group by day"
)
_BY_HOUR = {
    "runs": "select date_trunc('hour', held_at) as at, count(*) as value from ledger "
    "where tenant_id = $1 and route_class = 'run' and held_at >= $2 and day >= $3 group by 1",
    "tokens": "select date_trunc('hour', held_at) as at, sum(tokens)::bigint as value from ledger "
    "where tenant_id = $1 and held_at >= $2 and day >= $3 group by 1",
}


@dataclass(frozen=True, slots=True)
class Counted:
    """Entries of a span of days: how many runs, and tokens of language models."""

    runs: int
    tokens: int


async def of_period(work: Work, period: PeriodName, starts_on: date) -> Used:
    """One day, or the month that begins on a day."""
    row = await work.raw.fetchrow(
        f"select {PERIOD_COLUMNS} from usage_periods where tenant_id = $1 and period = $2 and starts_on = $3",
        work.tenant_id,
        period,
        starts_on,
    )
    return used_of(row, period) if row is not None else Used(period, starts_on)


async def days(work: Work, first: date, last: date) -> Sequence[Used]:
    """The days on which anything was used, the oldest first."""
    return [used_of(row, "day") for row in await work.raw.fetch(_DAYS, work.tenant_id, first, last)]


async def counted(work: Work, first: date, last: date) -> Counted:
    row: Any = await work.raw.fetchrow(_ENTRIES, work.tenant_id, first, last)
    return Counted(row["runs"], row["tokens"])


async def embedded(work: Work, first: date, last: date, subjects: str) -> tuple[int, int]:
    """Entries with embedding whose subject begins with `subjects`, and how many tokens it took."""
    row: Any = await work.raw.fetchrow(_EMBEDDED, work.tenant_id, first, last, f"{subjects}%")
    return row["entries"], row["tokens"]


async def runs_by_day(work: Work, first: date, last: date) -> dict[date, int]:
    return {row["day"]: row["value"] for row in await work.raw.fetch(_RUNS_BY_DAY, work.tenant_id, first, last)}


async def by_hour(work: Work, metric: Metric, since: datetime) -> dict[datetime, int]:
    """Runs or tokens by the full hour in which they were asked for."""
    rows: list[Any] = await work.raw.fetch(_BY_HOUR[metric], work.tenant_id, since, since.date())
    return {row["at"]: row["value"] for row in rows}
