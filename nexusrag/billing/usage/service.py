"""Use cases of usage: what was used in a period, over time, and what plan and quota leave."""

from datetime import UTC, date, datetime, timedelta

from nexusrag.billing.ledger import facade as ledger
from nexusrag.billing.plans.facade import TenantFeature, held_by
from nexusrag.billing.quotas.facade import snapshot
from nexusrag.billing.usage.schemas import (
    Granularity,
    Ingestion,
    Metric,
    OwnPlanOut,
    PeriodUsageOut,
    Point,
    RateLimitHits,
    Requests,
    UsageSummaryOut,
    UsageTimeseriesOut,
)
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.security.audit import facade as audit
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

INGESTION = "ingest:"  # how subjects of ingestion begin
_MOST_HOURS = 31 * 24


async def of_period(call: CallContext, period: ledger.PeriodName, start: date) -> PeriodUsageOut:
    """The day, or the month that holds the day `start`."""
    starts_on = start.replace(day=1) if period == "month" else start
    used = await ledger.of_period(call.db, period, starts_on)
    return PeriodUsageOut(
        tenant_id=call.tenant_id,
        period_type=period,
        period_start=starts_on,
        requests_count=used.units,
        estimated_tokens_count=used.tokens,
    )


async def summary(call: CallContext, window_days: int) -> UsageSummaryOut:
    """What the caller's tenant used in the last days."""
    first, last = _span(window_days)
    days = await ledger.days(call.db, first, last)
    counted = await ledger.counted(call.db, first, last)
    documents, tokens = await ledger.embedded(call.db, first, last, INGESTION)
    hits = await audit.count(call.db, EventType.RATE_LIMITED, datetime(first.year, first.month, first.day, tzinfo=UTC))
    call.about(Resource.USAGE, call.tenant_id)
    call.record(window_days=window_days)
    return UsageSummaryOut(
        window_days=window_days,
        requests=Requests(total=sum(day.units for day in days), runs=counted.runs, tokens=sum(day.tokens for day in days)),
        quota=await snapshot(call.db, call.of(Settings)),
        rate_limit_hits=RateLimitHits(total=hits),
        ingestion=Ingestion(documents=documents, embedding_tokens=tokens),
    )


async def timeseries(call: CallContext, metric: Metric, granularity: Granularity, days: int) -> UsageTimeseriesOut:
    """One metric of the caller's tenant over the last days. Raises VALIDATION_ERROR for what is not kept by the hour."""
    call.about(Resource.USAGE, call.tenant_id)
    call.record(metric=metric, granularity=granularity, days=days)
    first, last = _span(days)
    values = await (_hourly(call, metric, days) if granularity == "hour" else _daily(call, metric, first, last))
    begins = datetime(first.year, first.month, first.day, tzinfo=UTC)
    step = timedelta(hours=1) if granularity == "hour" else timedelta(days=1)
    points, now = [], clock.now()
    while begins <= now:
        points.append(Point(ts=clock.iso(begins) or "", value=values.get(begins, 0)))
        begins += step
    return UsageTimeseriesOut(metric=metric, granularity=granularity, points=points)


async def own_plan(call: CallContext) -> OwnPlanOut:
    """The plan of the caller's tenant, what it may use, and its quota."""
    settings = call.of(Settings)
    held = await held_by(call.db, settings)
    call.about(Resource.PLAN, held.tenant_id)
    return OwnPlanOut(
        tenant_id=held.tenant_id,
        plan_id=held.plan.value,
        plan_name=held.plan.shown,
        entitlements=[TenantFeature.of(one) for one in held.entitlements],
        quota=await snapshot(call.db, settings),
    )


async def _daily(call: CallContext, metric: Metric, first: date, last: date) -> dict[datetime, int]:
    if metric == "runs":
        values = await ledger.runs_by_day(call.db, first, last)
    else:
        values = {day.starts_on: day.units if metric == "requests" else day.tokens for day in await ledger.days(call.db, first, last)}
    return {datetime(day.year, day.month, day.day, tzinfo=UTC): value for day, value in values.items()}


async def _hourly(call: CallContext, metric: Metric, days: int) -> dict[datetime, int]:
    if metric == "requests":
        raise ApiError(ErrorCode.VALIDATION_ERROR, "Requests are counted by the day; use granularity=day, or metric runs or tokens.")
    if days * 24 > _MOST_HOURS:
        raise ApiError(ErrorCode.VALIDATION_ERROR, f"By the hour at most {_MOST_HOURS // 24} days are told.")
    first, _ = _span(days)
    return await ledger.by_hour(call.db, metric, datetime(first.year, first.month, first.day, tzinfo=UTC))


def _span(days: int) -> tuple[date, date]:
    today = clock.now().date()
    return today - timedelta(days=days - 1), today
