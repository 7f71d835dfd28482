"""Use cases of the dashboard."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from nexusrag.agents.runs import facade as runs
from nexusrag.agents.runs.facade import RunDay
from nexusrag.billing.ledger import facade as ledger
from nexusrag.billing.ledger.facade import Used
from nexusrag.billing.quotas import facade as quotas
from nexusrag.billing.quotas.facade import QuotaSnapshot
from nexusrag.console.dashboard.schemas import UiAlert, UiCard, UiChart, UiDashboard
from nexusrag.flags.switches import facade as flags
from nexusrag.flags.switches.facade import Held
from nexusrag.kernel import clock
from nexusrag.kernel.switches import Switch
from nexusrag.knowledge.documents import facade as documents
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

# Fewer runs than this say nothing about how many fail.
_ENOUGH = 10
_TOO_MANY_FAIL = 0.1
_OFF: Mapping[Switch, str] = {
    Switch.RUN: "Operators have switched questions off.",
    Switch.INGEST: "Operators have switched ingestion off; documents wait in the queue.",
    Switch.TTS: "Operators have switched spoken answers off.",
    Switch.EXTERNAL_RETRIEVAL: "Operators have switched outside retrieval providers off.",
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the domains said."""

    window_days: int
    first: date
    run_days: Sequence[RunDay]
    p95_s: float | None
    codes: Sequence[tuple[str, int]]
    documents: Mapping[str, int]
    use: Sequence[Used]
    quota: QuotaSnapshot

    @property
    def runs(self) -> int:
        return sum(day.runs for day in self.run_days)

    @property
    def failed(self) -> int:
        return sum(day.failed for day in self.run_days)


async def summary(call: CallContext, window_days: int) -> UiDashboard:
    """Figures of the caller's tenant; documents are all of the tenant's, whoever may read them."""
    first = clock.now().date() - timedelta(days=window_days - 1)
    seen = _Seen(
        window_days=window_days,
        first=first,
        run_days=await runs.by_day(call.db, first),
        p95_s=await runs.p95_s(call.db, first),
        codes=await runs.error_codes(call.db, first),
        documents=await documents.totals(call.db),
        use=await ledger.days(call.db, first, first + timedelta(days=window_days - 1)),
        quota=await quotas.snapshot(call.db, call.of(Settings)),
    )
    held = await flags.current(call.resources)
    return UiDashboard(
        window_days=window_days,
        cards=list(_cards(seen)),
        charts={chart.id: chart for chart in _charts(seen)},
        alerts=list(_alerts(seen, held, call.tenant_id)),
    )


def _cards(seen: _Seen) -> Iterable[UiCard]:
    days = f"in {seen.window_days} days"
    yield UiCard(id="runs", title="Questions", value=str(seen.runs), subtitle=days)
    rate = "–" if not seen.runs else f"{100 * (1 - seen.failed / seen.runs):.1f} %"
    yield UiCard(id="run_success", title="Answered", value=rate, subtitle=f"{seen.failed} failed {days}")
    took = "–" if seen.p95_s is None else f"{seen.p95_s:.2f} s"
    yield UiCard(id="run_p95", title="Time to answer", value=took, subtitle="95 in 100 are faster")
    waiting = sum(seen.documents.get(state, 0) for state in ("queued", "processing"))
    ready, failed = seen.documents.get("succeeded", 0), seen.documents.get("failed", 0)
    yield UiCard(id="documents", title="Documents", value=str(ready), subtitle=f"{waiting} waiting, {failed} failed")
    month = seen.quota.month
    left = "no limit" if month.remaining is None else f"{month.remaining} left this month"
    yield UiCard(id="requests", title="Request units", value=str(sum(day.units for day in seen.use)), subtitle=left)
    yield UiCard(id="tokens", title="Tokens", value=str(sum(day.tokens for day in seen.use)), subtitle=days)


def _charts(seen: _Seen) -> Iterable[UiChart]:
    by_day = {day.day: day for day in seen.run_days}
    use = {day.starts_on: day for day in seen.use}
    dates = [seen.first + timedelta(days=number) for number in range(seen.window_days)]
    quiet, unused = RunDay(seen.first, 0, 0), Used("day", seen.first)
    yield UiChart(
        id="runs",
        points=[{"ts": day.isoformat(), "value": by_day.get(day, quiet).runs, "failed": by_day.get(day, quiet).failed} for day in dates],
    )
    yield UiChart(id="requests", points=[{"ts": day.isoformat(), "value": use.get(day, unused).units} for day in dates])
    yield UiChart(id="tokens", points=[{"ts": day.isoformat(), "value": use.get(day, unused).tokens} for day in dates])
    yield UiChart(id="documents", points=[{"label": state, "value": number} for state, number in sorted(seen.documents.items())])
    yield UiChart(id="errors", points=[{"label": code, "value": number} for code, number in seen.codes])


def _alerts(seen: _Seen, held: Held, tenant_id: str) -> Iterable[UiAlert]:
    if held.frozen:
        yield UiAlert(id="write.freeze", message="Nothing is written at present; what is there can be read.", severity="critical")
    for switch, message in _OFF.items():
        if held.is_on(switch, tenant_id):
            yield UiAlert(id=switch.value, message=message, severity="critical" if switch is Switch.RUN else "warning")
    if seen.runs >= _ENOUGH and seen.failed / seen.runs >= _TOO_MANY_FAIL:
        message = f"{seen.failed} of {seen.runs} questions failed; the chart of errors has the codes."
        yield UiAlert(id="runs.failing", message=message, severity="warning")
    if failed := seen.documents.get("failed", 0):
        yield UiAlert(id="documents.failed", message=f"{failed} documents could not be indexed.", severity="warning")
    for period, window in (("month", seen.quota.month), ("day", seen.quota.day)):
        if window.remaining == 0:
            yield UiAlert(id=f"quota.{period}", message=f"The request units of this {period} are used up.", severity="critical")
            return
    if seen.quota.soft_cap_reached:
        yield UiAlert(id="quota.soft_cap", message="Most of the request units are used.", severity="warning")
