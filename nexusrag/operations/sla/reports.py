"""What was measured, as people ask for it: windows of one or five minutes, and the service level objectives of the last hour."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from nexusrag.access.roles.facade import is_operator
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.operations.sla import repository
from nexusrag.operations.sla.evaluate import figures_of
from nexusrag.operations.sla.measure import EVERYBODY, Measurer
from nexusrag.operations.sla.schemas import ErrorBudget, MeasurementOut, SloOut
from nexusrag.settings import Settings
from nexusrag.settings.sla import SlaSettings
from nexusrag.web.call import CallContext

_SECONDS = {"1m": 60, "5m": 300}
# On fewer requests nothing is said of a service level.
LEAST_REQUESTS = 20
# What objectives are about: the routes of operations are ours, not the tenants'.
_API = ("read", "mutation")


async def measurements(call: CallContext, route_class: str | None, window: Literal["1m", "5m"], limit: int) -> list[MeasurementOut]:
    """The newest windows of the tenant, up to `limit` of them over all classes."""
    seconds, now = _SECONDS[window], clock.now()
    since = now - timedelta(hours=call.of(Settings).sla.sla_retention_hours)
    groups: dict[tuple[int, str], list[Any]] = defaultdict(list)
    for cell in await _cells(call, call.tenant_id, since, now):
        if route_class in (None, cell["route_class"]):
            groups[int(cell["window_start"].timestamp()) // seconds * seconds, cell["route_class"]].append(cell)
    newest = sorted(groups, reverse=True)[:limit]
    return [_measured(call.tenant_id, name, window, start, groups[start, name]) for start, name in newest]


async def slo(call: CallContext) -> SloOut:
    """Raises SLO_DATA_UNAVAILABLE while too little was measured to say anything."""
    settings, operator = call.of(Settings).sla, is_operator(call.principal, call.of(Settings))
    now = clock.now()
    minutes = settings.sla_error_budget_window_minutes
    cells = await _cells(call, EVERYBODY if operator else call.tenant_id, now - timedelta(minutes=minutes), now)
    served = [cell for cell in cells if cell["route_class"] in ("run", *_API)]
    whole = figures_of(served, lambda _: True)
    call.record(path=call.request.url.path)
    if whole.count < LEAST_REQUESTS or whole.availability_pct is None:
        raise ApiError(
            ErrorCode.SLO_DATA_UNAVAILABLE, f"Only {whole.count} requests were measured in the last {minutes} minutes; ask again later.",
            {"requests": whole.count, "needed": LEAST_REQUESTS}, headers={"Retry-After": "60"},
        )  # fmt: skip
    recent = figures_of(served, lambda cell: cell["window_start"] >= now - timedelta(minutes=5))
    p95 = {}
    for name, classes in (("run", ("run",)), ("api", _API), *((one, (one,)) for one in (*_API, "documents_text"))):
        value = figures_of([cell for cell in cells if cell["route_class"] in classes], lambda _: True).sketch.quantile(0.95)
        if value is not None:
            p95[name] = round(value, 1)
    spent = whole.burn(settings.slo_availability_target) or 0.0
    burn_5m = recent.burn(settings.slo_availability_target) or 0.0
    return SloOut(
        window=f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m",
        scope="platform" if operator else "tenant",
        requests=whole.count,
        availability=round(whole.availability_pct, 3),
        p95=p95,
        error_budget=ErrorBudget(remaining_pct=round(max(0.0, 100 * (1 - spent)), 1), burn_rate_5m=round(burn_5m, 2)),
        status=_status(settings, p95, spent, burn_5m),
        objectives={
            "availability": settings.slo_availability_target, "p95_run_ms": settings.slo_p95_run_ms, "p95_api_ms": settings.slo_p95_api_ms,
        },
    )  # fmt: skip


def _status(settings: SlaSettings, p95: dict[str, float], spent: float, burn_5m: float) -> Literal["healthy", "warning", "breached"]:
    slow = p95.get("run", 0) > settings.slo_p95_run_ms or p95.get("api", 0) > settings.slo_p95_api_ms
    if spent > 1 or slow:
        return "breached"
    return "warning" if burn_5m > 1 or spent > 0.75 else "healthy"


async def _cells(call: CallContext, tenant_id: str, since: datetime, until: datetime) -> list[Any]:
    if tenant_id == EVERYBODY:
        rows = await repository.measured_of_everybody(call.db, since, until)
    else:
        rows = await repository.measured(call.db, since, until)
    return call.of(Measurer).together(tenant_id, rows, since, until)


def _measured(tenant_id: str, name: str, window: str, start: int, cells: list[Any]) -> MeasurementOut:
    whole = figures_of(cells, lambda _: True)
    first = figures_of(cells, lambda _: True, sketch="first_event").sketch.quantile(0.95)
    p50, p95, p99 = (_rounded(whole.sketch.quantile(q)) for q in (0.5, 0.95, 0.99))
    return MeasurementOut(
        tenant_id=tenant_id,
        route_class=name,
        window=window,
        window_start=datetime.fromtimestamp(start, UTC),
        window_end=datetime.fromtimestamp(start + _SECONDS[window], UTC),
        requests=whole.count,
        failures=whole.failures,
        availability_pct=None if whole.availability_pct is None else round(whole.availability_pct, 3),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        first_event_p95_ms=_rounded(first),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
