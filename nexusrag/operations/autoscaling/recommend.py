"""How many replicas there should be. Pure: signals in, a recommendation out."""

from dataclasses import dataclass
from typing import Literal

Act = Literal["scale_up", "scale_down", "hold"]


@dataclass(frozen=True, slots=True)
class Profile:
    """Bounds, targets and steps. A target of 0 waiting jobs means that any is too many."""

    enabled: bool
    min_replicas: int
    max_replicas: int
    target_p95_ms: int
    target_queue_depth: int
    step_up: int
    step_down: int


@dataclass(frozen=True, slots=True)
class Signals:
    """None is not known. `breached`: a policy that is linked to the profile is."""

    p95_ms: float | None
    queue_depth: int | None
    quality: Literal["ok", "degraded"] = "ok"
    breached: bool = False


@dataclass(frozen=True, slots=True)
class Recommendation:
    action: Act
    replicas: int
    reason: str


def recommend(profile: Profile, current: int, signals: Signals, hysteresis_pct: float) -> Recommendation:
    """One step at most, within the bounds. Between the target less and plus the hysteresis nothing is done.

    Up if any signal is above, down only if all that are known are below; with doubtful signals neither.
    """
    if not profile.enabled:
        return Recommendation("hold", current, "profile_disabled")
    if signals.quality == "degraded" or (signals.p95_ms is None and signals.queue_depth is None and not signals.breached):
        return Recommendation("hold", current, "signal_degraded")
    if current < profile.min_replicas:
        return Recommendation("scale_up", profile.min_replicas, "below_minimum")
    if current > profile.max_replicas:
        return Recommendation("scale_down", profile.max_replicas, "above_maximum")
    high, low = 1 + hysteresis_pct / 100, 1 - hysteresis_pct / 100
    pairs = [
        (name, value, target)
        for name, value, target in (
            ("p95_above_target", signals.p95_ms, profile.target_p95_ms),
            ("queue_above_target", signals.queue_depth, profile.target_queue_depth),
        )
        if value is not None
    ]
    above = [name for name, value, target in pairs if value > target * high] + (["sla_breached"] if signals.breached else [])
    if above:
        wanted = min(current + profile.step_up, profile.max_replicas)
        return _step("scale_up", current, wanted, above[0], "at_maximum")
    if all(value < target * low or value == 0 for _, value, target in pairs):
        wanted = max(current - profile.step_down, profile.min_replicas)
        return _step("scale_down", current, wanted, "below_targets", "at_minimum")
    return Recommendation("hold", current, "within_hysteresis")


def _step(action: Act, current: int, wanted: int, reason: str, otherwise: str) -> Recommendation:
    return Recommendation(action, wanted, reason) if wanted != current else Recommendation("hold", current, otherwise)
