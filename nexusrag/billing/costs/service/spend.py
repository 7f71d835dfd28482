"""Views of what was spent, from the ledger: a month's summary and breakdown, and a series of hours or days."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from nexusrag.billing.costs import repository
from nexusrag.billing.costs.budgets import month_of
from nexusrag.billing.costs.schemas import SpendBreakdown, SpendPoint, SpendSummary, SpendTimeseries
from nexusrag.kernel import clock, money
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

GroupedBy = Literal["component", "provider", "route_class", "model", "user", "key"]
_NOTHING = Decimal(0)


async def summary(call: CallContext, year_month: str | None) -> SpendSummary:
    """The month by component, provider and route class."""
    start, end = _month(year_month)
    found = await repository.sums(call.db, ("component", "provider", "route_class"), start, end)
    (spent,) = (await repository.spent(call.db, [call.tenant_id], start.date())).values()
    total = sum(found.values(), _NOTHING)
    by = [money.apportioned(grouped(found, place), total) for place in range(3)]
    return SpendSummary(
        period="month",
        year_month=f"{start:%Y-%m}",
        total_usd=total,
        by_component=by[0],
        by_provider=by[1],
        by_route_class=by[2],
        held_usd=spent.held,
    )


async def breakdown(call: CallContext, year_month: str | None, by: GroupedBy) -> SpendBreakdown:
    """The month by one thing."""
    start, end = _month(year_month)
    found = await repository.sums(call.db, (by,), start, end)
    total = sum(found.values(), _NOTHING)
    parts = money.apportioned(grouped(found, 0), total)
    return SpendBreakdown(period="month", year_month=f"{start:%Y-%m}", by=by, breakdown=parts, total_usd=total)


async def timeseries(call: CallContext, days: int | None, granularity: Literal["day", "hour"]) -> SpendTimeseries:
    """The last days up to now, a point for each day or hour, those without spending included."""
    window = days or call.of(Settings).costs.cost_timeseries_default_days
    now = clock.now()
    step = timedelta(hours=1) if granularity == "hour" else timedelta(days=1)
    last = now.replace(minute=0, second=0, microsecond=0)
    last = last if granularity == "hour" else last.replace(hour=0)
    first = last - timedelta(days=window) + step
    found = await repository.sums_by_time(call.db, granularity, first, last + step)
    starts = [first + step * place for place in range(timedelta(days=window) // step)]
    spent = money.apportioned({start: found.get(start, _NOTHING) for start in starts}, sum(found.values(), _NOTHING))
    points = [SpendPoint(ts=start, total_usd=spent[start]) for start in starts]
    return SpendTimeseries(window_days=window, granularity=granularity, points=points)


def grouped(found: dict[tuple[str, ...], Decimal], place: int) -> dict[str, Decimal]:
    """Sums by one part of their keys."""
    sums: dict[str, Decimal] = {}
    for key, usd in sorted(found.items()):
        sums[key[place]] = sums.get(key[place], _NOTHING) + usd
    return sums


def _month(year_month: str | None) -> tuple[datetime, datetime]:
    """Where a month `YYYY-MM`, or the current one, begins and ends."""
    first = date.fromisoformat(f"{year_month}-01") if year_month else month_of(clock.now())
    start = datetime(first.year, first.month, 1, tzinfo=UTC)
    return start, (start + timedelta(days=32)).replace(day=1)
