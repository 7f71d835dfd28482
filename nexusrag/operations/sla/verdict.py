"""Whether a window was good or bad, and what follows from windows in a row. Pure: no clock, no database.

A window is bad if an objective is missed over the sliding breach window and within the last window alone, so that what is over
does not count again and again; and never on a handful of requests.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nexusrag.kernel.traffic import RouteClass
from nexusrag.operations.sla.config import Mode, PolicyConfig
from nexusrag.operations.sla.sketch import Sketch

# On fewer requests nothing is said of a quantile, and on fewer failures nothing of availability.
LEAST_FOR_P95, LEAST_FOR_P99, LEAST_FAILURES, MANY_FAILURES = 20, 100, 2, 5
# What burn rates of an empty budget count as.
MOST_BURN = 1000.0


class Status(StrEnum):
    HEALTHY = "healthy"
    WARNING = "warning"
    BREACHED = "breached"


class Decision(StrEnum):
    ALLOW = "allow"
    WARN = "warn"
    DEGRADE = "degrade"
    SHED = "shed"


@dataclass(slots=True)
class Figures:
    """What was measured over some time."""

    count: int = 0
    failures: int = 0
    sketch: Sketch = field(default_factory=Sketch)

    def merge(self, count: int, failures: int, sketch: Sketch) -> None:
        self.count += count
        self.failures += failures
        self.sketch.merge(sketch)

    @property
    def availability_pct(self) -> float | None:
        return 100 * (1 - self.failures / self.count) if self.count else None

    def burn(self, availability_min_pct: float) -> float | None:
        """How many times faster than allowed the error budget is spent; 1 spends it exactly."""
        if not self.count:
            return None
        return min(self.failures / self.count / (1 - availability_min_pct / 100), MOST_BURN)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`bad` is None of a window in which too little happened to tell. `missed` names objectives."""

    bad: bool | None
    missed: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """`bad` and `good`: windows of that kind in a row."""

    status: Status = Status.HEALTHY
    bad: int = 0
    good: int = 0


def judge(config: PolicyConfig, of: RouteClass, window: Figures, sliding: Figures, five: Figures, hour: Figures) -> Verdict:
    """What one window was, by itself and at the end of the breach window, of five minutes and of the error budget's window."""
    objectives = config.objectives
    missed = [name for name in _missed(config, of, sliding) if name in _missed(config, of, window, few=True)]
    target, most = objectives.availability_min_pct, objectives.max_error_budget_burn_5m
    burn_5m, burn_1h = five.burn(target or 99.9), hour.burn(target or 99.9)
    # Both windows: the short one says that it goes on, the long one that it matters.
    if most is not None and _enough_failures(five) and (burn_5m or 0) > most and (burn_1h or 0) > 1 and window.failures:
        missed.append("max_error_budget_burn_5m")
    evidence = {
        "requests": sliding.count,
        "availability_pct": _rounded(sliding.availability_pct, 3),
        "p95_ms": _rounded(sliding.sketch.quantile(0.95)),
        "p99_ms": _rounded(sliding.sketch.quantile(0.99)),
        "burn_rate_5m": _rounded(burn_5m, 3),
        "burn_rate_1h": _rounded(burn_1h, 3),
        "missed": missed,
    }
    return Verdict(True if missed else False if window.count else None, tuple(missed), evidence)


def _missed(config: PolicyConfig, of: RouteClass, figures: Figures, *, few: bool = False) -> list[str]:
    """Objectives that the figures miss. `few`: however few they are, since a longer window decides whether they are enough."""
    objectives, found = config.objectives, []
    quantiles = (("p95_ms_max", objectives.p95_ms_max, 0.95, LEAST_FOR_P95), ("p99_ms_max", objectives.p99_ms_max, 0.99, LEAST_FOR_P99))
    target, reached = objectives.availability_min_pct, figures.availability_pct
    if target is not None and reached is not None and reached < target and (few or _enough_failures(figures)):
        found.append("availability_min_pct")
    for name, limits, q, least in quantiles:
        limit, value = limits.get(of.value), figures.sketch.quantile(q)
        if limit is not None and value is not None and (few or figures.sketch.count >= least) and value > limit:
            found.append(name)
    return found


def _enough_failures(figures: Figures) -> bool:
    return figures.failures >= MANY_FAILURES or (figures.failures >= LEAST_FAILURES and figures.count >= LEAST_FOR_P95)


def follow(before: Standing, verdict: bool | None, trigger: int, *, recovering: bool = False) -> Standing:
    """The standing after one more window. `trigger` bad windows in a row are a breach, as many good ones end it.

    `recovering`: there is an incident that is still open, though the standing began anew.

    A window in which nothing happened counts as neither, and as a good one where there is something to recover from: whoever is
    refused everything must not be refused for ever.
    """
    if verdict is None and before.status is Status.HEALTHY and not recovering:
        return before
    if verdict:
        bad = before.bad + 1
        return Standing(Status.BREACHED if bad >= trigger or before.status is Status.BREACHED else Status.WARNING, bad, 0)
    good = before.good + 1
    return Standing(Status.HEALTHY if good >= trigger else before.status, 0, good)


def decide(standing: Standing, mode: Mode, trigger: int, *, allow_degrade: bool, shed_enabled: bool) -> Decision:
    """What a request of a tenant that stands so meets. Who is degraded and does no better after as many windows again is shed."""
    if mode == "observe" or standing.status is Status.HEALTHY:
        return Decision.ALLOW
    if mode == "warn" or standing.status is Status.WARNING:
        return Decision.WARN
    helped_not = standing.bad >= 2 * trigger
    if shed_enabled and (helped_not or not allow_degrade):
        return Decision.SHED
    return Decision.DEGRADE if allow_degrade else Decision.WARN


def _rounded(value: float | None, places: int = 1) -> float | None:
    return None if value is None else round(value, places)
