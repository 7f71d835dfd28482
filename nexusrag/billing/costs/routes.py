"""HTTP face of costs: /v1/admin/costs and, for the same tenant's admins, /v1/self-serve/costs."""

from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import AwareDatetime

from nexusrag.billing.costs import gates
from nexusrag.billing.costs.prices import RateType
from nexusrag.billing.costs.schemas import (
    BudgetChange,
    BudgetOut,
    ChargebackReport,
    ChargebackReports,
    Name,
    PriceChange,
    PriceCreate,
    PriceInForce,
    PriceList,
    PriceOut,
    SpendBreakdown,
    SpendSummary,
    SpendTimeseries,
)
from nexusrag.billing.costs.service import budget, catalogue, chargeback, spend
from nexusrag.billing.costs.sheet import sheet
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

admin = Router("admin/costs", tag="Costs")
self_serve = Router("self-serve/costs", tag="Costs")
Month = Annotated[str | None, Query(pattern=r"^[12]\d{3}-(0[1-9]|1[0-2])$", description="`YYYY-MM`, UTC; default: the current month")]
Days = Annotated[int | None, Query(ge=1, le=366, description="default: COST_TIMESERIES_DEFAULT_DAYS")]
Granularity = Literal["day", "hour"]
Period = Literal["month"]


@admin.get("/budget", gate=gates.VIEW)
async def get_budget(call: Call) -> BudgetOut:
    """The tenant's monthly budget, what follows when it is spent, and where the month stands."""
    return await budget.describe(call)


@admin.patch("/budget", gate=gates.SET_BUDGET)
async def set_budget(call: Call, body: BudgetChange) -> BudgetOut:
    """Set the monthly budget, its warning and its hard cap; at once and everywhere."""
    return await budget.change(call, body)


@admin.get("/pricing/catalog", gate=gates.VIEW)
async def list_prices(call: Call, active: bool | None = None) -> PriceList:
    """The tenant's prices, the newest first, and after them those of the platform."""
    return await catalogue.listed(call, active)


@admin.post("/pricing/catalog", gate=gates.ADD_PRICE, status_code=201)
async def add_price(call: Call, body: PriceCreate) -> PriceOut:
    """Add a price. It must not be in force together with another active one of its provider, component and rate type."""
    return await catalogue.create(call, body)


@admin.patch("/pricing/catalog/{price_id}", gate=gates.CHANGE_PRICE)
async def change_price(call: Call, price: Loaded[Any], body: PriceChange) -> PriceOut:
    """End a price, or take it out of use. What was charged by it stays charged."""
    return await catalogue.change(call, price, body)


@admin.get("/pricing/in-force", gate=gates.VIEW)
async def get_price_in_force(
    call: Call,
    component: Name,
    provider: Name,
    model: Annotated[str | None, Query(max_length=128)] = None,
    rate_type: RateType | None = None,
    at: AwareDatetime | None = None,
) -> PriceInForce:
    """The price that use is charged by, at `at` or now."""
    return await catalogue.in_force(call, component, provider, model, rate_type, at)


@admin.get("/spend/summary", gate=gates.VIEW)
@self_serve.get("/spend/summary", gate=gates.VIEW)
async def summarise_spend(call: Call, period: Period = "month", year_month: Month = None) -> SpendSummary:
    """What a month has cost, by component, provider and class of route."""
    return await spend.summary(call, year_month)


@admin.get("/spend/timeseries", gate=gates.VIEW)
@self_serve.get("/spend/timeseries", gate=gates.VIEW)
async def spend_over_time(call: Call, days: Days = None, granularity: Granularity = "day") -> SpendTimeseries:
    """What the last days have cost, by the day or hour (UTC) in which work began. Every one has a point."""
    return await spend.timeseries(call, days, granularity)


@admin.get("/spend/breakdown", gate=gates.VIEW)
@self_serve.get("/spend/breakdown", gate=gates.VIEW)
async def break_spend_down(
    call: Call, period: Period = "month", year_month: Month = None, by: spend.GroupedBy = "component"
) -> SpendBreakdown:
    """What a month has cost, by one thing; `\"\"` stands for what has none, such as the person who has documents kept."""
    return await spend.breakdown(call, year_month, by)


@admin.post("/chargeback/generate", gate=gates.GENERATE)
async def generate_chargeback(call: Call, period_start: str, period_end: str) -> ChargebackReport:
    """Make a report of a period and keep it. Its lines add up to the ledger of the period exactly."""
    return await chargeback.generate(call, period_start, period_end)


@admin.get("/chargeback/reports", gate=gates.REPORTS)
async def list_chargebacks(call: Call, limit: Annotated[int, Query(ge=1, le=200)] = 100) -> ChargebackReports:
    """The newest reports, without their lines."""
    return await chargeback.listed(call, limit)


@admin.get("/chargeback/reports/{report_id}.csv", gate=gates.SHEET, media_type="text/csv")
async def download_chargeback(call: Call, report: Loaded[Any]) -> Response:
    """The lines of a report for a spreadsheet."""
    name = f'attachment; filename="chargeback-{report["period_start"]:%Y-%m-%d}-{report["period_end"]:%Y-%m-%d}.csv"'
    return Response(sheet(report), media_type="text/csv; charset=utf-8", headers={"Content-Disposition": name, "Cache-Control": "no-store"})


@admin.get("/chargeback/reports/{report_id}", gate=gates.REPORT)
async def get_chargeback(call: Call, report: Loaded[Any]) -> ChargebackReport:
    """A report with its lines."""
    return chargeback.told(report)


@self_serve.get("/budget", gate=gates.VIEW)
async def get_own_budget(call: Call) -> BudgetOut:
    """The tenant's monthly budget and where the month stands."""
    return await budget.describe(call)


@self_serve.get("/chargeback/latest", gate=gates.REPORTS)
async def get_latest_chargeback(call: Call) -> ChargebackReport:
    """The newest report with its lines."""
    return await chargeback.latest(call)
