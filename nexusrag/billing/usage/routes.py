"""HTTP face of usage: /v1/admin/usage, /v1/self-serve/usage, and the caller's own plan, which shows what is left of it."""

from datetime import date
from typing import Annotated, Literal

from fastapi import Query

from nexusrag.billing.usage import gates, service
from nexusrag.billing.usage.schemas import Granularity, Metric, OwnPlanOut, PeriodUsageOut, UsageSummaryOut, UsageTimeseriesOut
from nexusrag.web.call import Call
from nexusrag.web.router import Router

admin = Router("admin/usage", tag="Quotas and usage")
self_serve = Router("self-serve/usage", tag="Quotas and usage")
own_plan = Router("self-serve/plan", tag="Plans")


@admin.get("/{tenant_id}", gate=gates.READ)
async def get_usage(call: Call, start: date, period: Literal["day", "month"] = "month") -> PeriodUsageOut:
    """Request units and tokens of one UTC day, or of the month that holds the day `start`. Operators may name any tenant."""
    return await service.of_period(call, period, start)


@self_serve.get("/summary", gate=gates.OWN)
async def get_usage_summary(call: Call, window_days: Annotated[int, Query(ge=1, le=366)] = 30) -> UsageSummaryOut:
    """What the caller's tenant used in the last days, and what is left."""
    return await service.summary(call, window_days)


@self_serve.get("/timeseries", gate=gates.OWN)
async def get_usage_timeseries(
    call: Call, metric: Metric = "requests", granularity: Granularity = "day", days: Annotated[int, Query(ge=1, le=366)] = 30
) -> UsageTimeseriesOut:
    """One metric by the day, or runs and tokens by the hour, over the last days."""
    return await service.timeseries(call, metric, granularity, days)


@own_plan.get("", gate=gates.OWN_PLAN)
async def get_own_plan(call: Call) -> OwnPlanOut:
    """The plan of the caller's tenant, what it may use, and its quota."""
    return await service.own_plan(call)
