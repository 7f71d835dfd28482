"""How many replicas: bounds, steps and hysteresis for whatever signals, and nothing on doubtful ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusrag.operations.autoscaling.recommend import Profile, Recommendation, Signals, recommend

PROFILE = Profile(
    enabled=True, min_replicas=2, max_replicas=10, target_p95_ms=1000, target_queue_depth=20, step_up=3, step_down=1
)  # fmt: skip
profiles = st.builds(
    lambda low, more, p95, depth, up, down: Profile(
        enabled=True, min_replicas=low, max_replicas=low + more, target_p95_ms=p95, target_queue_depth=depth, step_up=up, step_down=down
    ),
    st.integers(1, 20), st.integers(0, 20), st.integers(1, 5000), st.integers(0, 100), st.integers(1, 5), st.integers(1, 5),
)  # fmt: skip
signals = st.builds(
    Signals,
    st.none() | st.floats(0, 20_000),
    st.none() | st.integers(0, 500),
    st.sampled_from(["ok", "degraded"]),
    st.booleans(),
)


@given(profiles, st.integers(1, 60), signals, st.floats(0, 90))
def test_it_stays_within_bounds_and_steps_and_acts_only_beyond_the_hysteresis(
    profile: Profile, current: int, seen: Signals, hysteresis: float
) -> None:
    told = recommend(profile, current, seen, hysteresis)
    if told.action == "hold":
        assert told.replicas == current
        return
    assert profile.min_replicas <= told.replicas <= profile.max_replicas
    assert (told.replicas > current) is (told.action == "scale_up")
    assert seen.quality == "ok"
    if not profile.min_replicas <= current <= profile.max_replicas:
        return
    assert abs(told.replicas - current) <= (profile.step_up if told.action == "scale_up" else profile.step_down)
    pairs = ((seen.p95_ms, profile.target_p95_ms), (seen.queue_depth, profile.target_queue_depth))
    known = [(value, target) for value, target in pairs if value is not None]
    if told.action == "scale_up":
        assert seen.breached or any(value > target * (1 + hysteresis / 100) for value, target in known)
    else:
        assert not seen.breached and all(value < target or value == 0 for value, target in known)


@given(profiles, st.integers(1, 60), signals)
def test_following_it_with_steady_signals_comes_to_rest(profile: Profile, current: int, seen: Signals) -> None:
    for _ in range(100):
        told = recommend(profile, current, seen, 10)
        if told.action == "hold":
            break
        current = told.replicas
    assert recommend(profile, current, seen, 10).action == "hold"


@pytest.mark.parametrize(
    ("current", "seen", "told"),
    [
        (2, Signals(1650, 24), Recommendation("scale_up", 5, "p95_above_target")),
        (2, Signals(500, 24), Recommendation("scale_up", 5, "queue_above_target")),
        (2, Signals(1050, 21), Recommendation("hold", 2, "within_hysteresis")),
        (5, Signals(950, 19), Recommendation("hold", 5, "within_hysteresis")),
        (5, Signals(100, 0), Recommendation("scale_down", 4, "below_targets")),
        (5, Signals(100, None), Recommendation("scale_down", 4, "below_targets")),
        (5, Signals(100, 19), Recommendation("hold", 5, "within_hysteresis")),
        (2, Signals(100, 0), Recommendation("hold", 2, "at_minimum")),
        (10, Signals(9999, 0), Recommendation("hold", 10, "at_maximum")),
        (9, Signals(9999, 0), Recommendation("scale_up", 10, "p95_above_target")),
        (1, Signals(100, 0), Recommendation("scale_up", 2, "below_minimum")),
        (11, Signals(9999, 0), Recommendation("scale_down", 10, "above_maximum")),
        (5, Signals(100, 0, breached=True), Recommendation("scale_up", 8, "sla_breached")),
        (2, Signals(9999, 500, "degraded"), Recommendation("hold", 2, "signal_degraded")),
        (2, Signals(None, None), Recommendation("hold", 2, "signal_degraded")),
    ],
)
def test_what_each_situation_asks_for(current: int, seen: Signals, told: Recommendation) -> None:
    assert recommend(PROFILE, current, seen, 10) == told
