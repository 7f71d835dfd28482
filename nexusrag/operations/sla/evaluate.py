"""Judges the windows that have closed: how each tenant stands with its policy, and incidents. Run by every worker; one of them judges.

The assignment's row is the lock: whoever holds it judges, and writes how far it got in the same transaction.
"""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import structlog

from nexusrag.infra.changes import announce
from nexusrag.infra.database import Database, Work
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.traffic import RouteClass
from nexusrag.operations.sla import repository
from nexusrag.operations.sla.config import PolicyConfig, read
from nexusrag.operations.sla.decisions import CHANGED, EVERYTHING
from nexusrag.operations.sla.sketch import Sketch
from nexusrag.operations.sla.verdict import Figures, Standing, Status, Verdict, decide, follow, judge
from nexusrag.security.audit.facade import write_system
from nexusrag.settings import Settings
from nexusrag.settings.sla import SlaSettings

log = structlog.get_logger(__name__)
# After a pause of the workers no more windows than this are judged after the event; with a longer one all begins anew.
_CATCH_UP = 3
_BATCH = 200
_MINUTE = timedelta(minutes=1)


async def evaluate(resources: Resources) -> None:
    """Judge, for every tenant under a policy, what was not judged yet."""
    settings = resources.get(Settings).sla
    if not settings.sla_engine_enabled:
        return
    database = resources.get(Database)
    async with database.work(None) as work:
        end = last_closed(await repository.now(work), settings)
        heard = await repository.reported_within(work, 2 * settings.sla_measurement_window_seconds + 2 * settings.sla_flush_interval_s)
        tenants = await repository.due(work, end, _BATCH)
        unbound = await repository.unbound(work, _BATCH)
    for tenant_id in tenants:
        async with database.work(tenant_id) as work:
            await evaluate_tenant(work, end, settings, heard=heard)
    for tenant_id in unbound:  # a policy that was disabled, an assignment that has ended: nobody will judge them better
        async with database.work(tenant_id) as work:
            await repository.hold_assignment(work)
            for route_class in await repository.open_classes(work):
                await _resolve(work, route_class)


async def prune(resources: Resources) -> None:
    """Remove what was measured too long ago."""
    hours = resources.get(Settings).sla.sla_retention_hours
    async with resources.get(Database).work(None) as work:
        await repository.prune(work, hours, 50_000)


def last_closed(now: datetime, settings: SlaSettings) -> datetime:
    """The end of the last window that every process has had time to write."""
    window_s = settings.sla_measurement_window_seconds
    return datetime.fromtimestamp((now.timestamp() - 1.5 * settings.sla_flush_interval_s) // window_s * window_s, UTC)


async def evaluate_tenant(work: Work, end: datetime, settings: SlaSettings, *, heard: bool) -> None:
    """Judge the tenant's windows up to `end`, unless somebody else does. `heard`: processes write what they measure."""
    row = await repository.take(work, end)
    if row is None:
        return
    try:
        config = read(row["config"], row["override"])
    except ApiError as error:  # stored by another release
        _tell_unreadable(row["id"], row["version"], work.tenant_id, error.message)
        await repository.judged(work, end)
        return
    judging = _Judging(work, row, config, settings)
    if heard:
        await judging.windows(end)
    else:
        await judging.signal_lost(end)
    await repository.judged(work, end)
    if judging.changed:
        await announce(work, CHANGED, EVERYTHING)


@lru_cache(maxsize=1000)
def _tell_unreadable(policy_id: str, version: int, tenant_id: str | None, reason: str) -> None:
    """Once for each version of a policy: it is looked at in every window, and nothing changes by itself."""
    log.error("sla.policy_unreadable", policy=policy_id, version=version, tenant=tenant_id, reason=reason)


class _Judging:
    """One tenant under one version of a policy, within one transaction."""

    def __init__(self, work: Work, policy: Any, config: PolicyConfig, settings: SlaSettings) -> None:
        self._work = work
        self._policy = policy
        self._config = config
        self._settings = settings
        self._trigger = config.trigger(settings)
        self._step = timedelta(seconds=settings.sla_measurement_window_seconds)
        self._open: set[str] = set()
        self.changed = False

    async def windows(self, end: datetime) -> None:
        """The windows since the last judgement, one after the other."""
        first = max(self._policy["evaluated_to"] or end - self._step, end - _CATCH_UP * self._step)
        sliding = self._config.enforcement.breach_window_minutes * _MINUTE
        hour = self._settings.sla_error_budget_window_minutes * _MINUTE
        rows = await repository.measured(self._work, first + self._step - max(sliding, hour, 5 * _MINUTE), end)
        cells: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            cells[row["route_class"]].append(row)
        held = {row["route_class"]: row for row in await repository.states(self._work)}
        for gone in held.keys() - {one.value for one in self._config.classes}:
            await repository.forget_state(self._work, gone)
            self.changed = True
        self._open = await repository.open_classes(self._work)
        for over in self._open - {one.value for one in self._config.classes}:
            await _resolve(self._work, over)
        for route_class in self._config.classes:
            before = held.get(route_class.value)
            until = first
            state = self._standing(before, first)
            while until < end:
                until += self._step
                figures = [_over(cells[route_class.value], until - long, until) for long in (self._step, sliding, 5 * _MINUTE, hour)]
                verdict = judge(self._config, route_class, *figures)
                after = follow(state, verdict.bad, self._trigger, recovering=route_class.value in self._open)
                await self._follow(route_class, state, after, verdict, until, before)
                state = after

    async def signal_lost(self, end: datetime) -> None:
        """Nobody writes what is measured: nothing can be said, and nobody is held to it."""
        for row in await repository.states(self._work):
            if row["signal"] == "degraded":
                continue
            fields = {**dict(row), "signal": "degraded", "status": "healthy", "decision": "allow", "bad": 0, "good": 0, "window_end": end}
            await repository.put_state(self._work, row["route_class"], fields)
            about = {"route_class": row["route_class"], "policy_id": row["policy_id"], "last_window_end": row["window_end"]}
            await write_system(self._work, EventType.SLA_SIGNAL_DEGRADED, about, about=(Resource.SLA_POLICY, row["policy_id"]))
            self.changed = True

    def _standing(self, row: Any, since: datetime) -> Standing:
        """Where the tenant stood at `since`; at the beginning under another version, or when too long ago."""
        same = row is not None and (row["policy_id"], row["policy_version"]) == (self._policy["id"], self._policy["version"])
        if not same or row["window_end"] < since - _CATCH_UP * self._step:
            return Standing()
        return Standing(Status(row["status"]), row["bad"], row["good"])

    async def _follow(
        self, route_class: RouteClass, before: Standing, after: Standing, verdict: Verdict, window_end: datetime, row: Any
    ) -> None:
        mitigation = self._config.mitigation
        decision = decide(
            after, self._config.mode(self._settings), self._trigger,
            allow_degrade=mitigation.allow_degrade, shed_enabled=self._settings.sla_shed_enabled,
        )  # fmt: skip
        fields = {
            "policy_id": self._policy["id"], "policy_version": self._policy["version"], "status": after.status.value,
            "decision": decision.value, "signal": "ok", "bad": after.bad, "good": after.good, "window_end": window_end,
            "evidence": verdict.evidence,
        }  # fmt: skip
        await repository.put_state(self._work, route_class.value, fields)
        self.changed = self.changed or row is None or (row["status"], row["decision"], row["signal"]) != (
            after.status.value, decision.value, "ok",
        )  # fmt: skip
        if after.status is Status.BREACHED and before.status is not Status.BREACHED:
            await self._breached(route_class, verdict, window_end)
        # Not only when it was this standing that was breached: a changed policy and a lost signal begin anew, and leave incidents open.
        if route_class.value in self._open and after.status is Status.HEALTHY and after.good >= self._trigger:
            await _resolve(self._work, route_class.value)
            self._open.discard(route_class.value)

    async def _breached(self, route_class: RouteClass, verdict: Verdict, window_end: datetime) -> None:
        policy_id, version = self._policy["id"], self._policy["version"]
        about = {"route_class": route_class.value, "policy_id": policy_id, "policy_version": version, **verdict.evidence}
        await write_system(self._work, EventType.SLA_BREACH_DETECTED, about, about=(Resource.SLA_POLICY, policy_id))
        incident_id = new_id("inc")
        if await repository.open_incident(self._work, incident_id, route_class.value, policy_id, version, window_end, verdict.evidence):
            self._open.add(route_class.value)
            await write_system(self._work, EventType.SLA_INCIDENT_OPENED, about, about=(Resource.SLA_INCIDENT, incident_id))


async def _resolve(work: Work, route_class: str) -> None:
    for incident in await repository.resolve_incidents(work, route_class, "system"):
        about = {"route_class": route_class, "policy_id": incident["policy_id"]}
        await write_system(work, EventType.SLA_INCIDENT_RESOLVED, about, about=(Resource.SLA_INCIDENT, incident["id"]))


def _over(cells: list[Any], since: datetime, until: datetime) -> Figures:
    return figures_of(cells, lambda row: since <= row["window_start"] < until)


def figures_of(cells: list[Any], chosen: Callable[[Any], bool], *, sketch: str = "sketch") -> Figures:
    """The cells that are chosen, of whatever processes and windows, together."""
    figures = Figures()
    for row in cells:
        if chosen(row):
            figures.merge(row["count"], row["failures"], Sketch.load(row[sketch]))
    return figures
