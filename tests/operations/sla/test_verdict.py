"""What windows in a row lead to, against a naive model; and that gaps, single outliers and a handful of requests lead to nothing."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusrag.kernel.traffic import RouteClass
from nexusrag.operations.sla.config import PolicyConfig, read
from nexusrag.operations.sla.verdict import Decision, Figures, Standing, Status, decide, follow, judge

windows = st.lists(st.sampled_from([True, False, None]), max_size=60)
triggers = st.integers(1, 6)


def standings(seen: list[bool | None], trigger: int) -> list[Standing]:
    found = [Standing()]
    for bad in seen:
        found.append(follow(found[-1], bad, trigger))
    return found


def naive(seen: list[bool | None], trigger: int) -> Status:
    """Written down a second time, from the whole history and without counters: quiet windows count as good while things are not well."""
    status, history = Status.HEALTHY, []
    for bad in seen:
        if bad is None and status is Status.HEALTHY:
            continue
        history.append(bool(bad))
        last = history[-trigger:]
        if bad:
            if len(last) == trigger and all(last):
                status = Status.BREACHED
            elif status is Status.HEALTHY:
                status = Status.WARNING
        elif len(last) == trigger and not any(last):
            status = Status.HEALTHY
    return status


@given(windows, triggers)
def test_the_standing_is_that_of_a_naive_model(seen: list[bool | None], trigger: int) -> None:
    assert standings(seen, trigger)[-1].status is naive(seen, trigger)


@given(windows, triggers)
def test_a_breach_needs_its_windows_in_a_row_and_its_end_as_many(seen: list[bool | None], trigger: int) -> None:
    for place, (before, after) in enumerate(pairwise(standings(seen, trigger))):
        last = seen[max(0, place - trigger + 1) : place + 1]
        if after.status is Status.BREACHED and before.status is not Status.BREACHED:
            assert seen[place] and after.bad >= trigger
        if before.status is Status.BREACHED and after.status is not Status.BREACHED:
            assert after.status is Status.HEALTHY and len(last) == trigger and not any(last)


@given(triggers, st.integers(1, 60))
def test_noise_that_never_lasts_breaches_nothing_and_does_not_flap(trigger: int, length: int) -> None:
    seen: list[bool | None] = [place % 2 == 0 for place in range(length)]
    changes = sum(before.status is not after.status for before, after in pairwise(standings(seen, trigger)))
    if trigger > 1:
        assert changes == 1  # to a warning, which stays
        assert standings(seen, trigger)[-1].status is Status.WARNING


def test_silence_breaches_nothing_and_ends_what_was_refused() -> None:
    assert standings([None] * 20, 1)[-1] == Standing()
    assert standings([True] * 3 + [None] * 3, 3)[-1].status is Status.HEALTHY


@pytest.mark.parametrize(
    ("bad", "mode", "allow_degrade", "shed_enabled", "met"),
    [
        (0, "enforce", True, True, Decision.ALLOW),
        (1, "enforce", True, True, Decision.WARN),
        (3, "observe", True, True, Decision.ALLOW),
        (9, "warn", True, True, Decision.WARN),
        (3, "enforce", True, True, Decision.DEGRADE),
        (5, "enforce", True, True, Decision.DEGRADE),
        (6, "enforce", True, True, Decision.SHED),
        (6, "enforce", True, False, Decision.DEGRADE),
        (3, "enforce", False, True, Decision.SHED),
        (3, "enforce", False, False, Decision.WARN),
    ],
)
def test_what_a_request_meets_grows_with_the_bad_windows(
    bad: int, mode: str, allow_degrade: bool, shed_enabled: bool, met: Decision
) -> None:
    standing = standings([True] * bad, 3)[-1]
    assert decide(standing, mode, 3, allow_degrade=allow_degrade, shed_enabled=shed_enabled) is met  # type: ignore[arg-type]


CONFIG = read(
    {
        "objectives": {
            "availability_min_pct": 99.0, "p95_ms_max": {"run": 1000}, "p99_ms_max": {"run": 2000}, "max_error_budget_burn_5m": 2.0,
        }
    }
)  # fmt: skip


def figures(good: int, slow: int = 0, failed: int = 0) -> Figures:
    made = Figures(count=good + slow + failed, failures=failed)
    for ms, number in ((100.0, good), (5000.0, slow)):
        for _ in range(number):
            made.sketch.add(ms)
    return made


def missed(window: Figures, sliding: Figures, config: PolicyConfig = CONFIG) -> set[str]:
    verdict = judge(config, RouteClass.RUN, window, sliding, sliding, sliding)
    assert verdict.bad is (bool(verdict.missed) or None if not window.count else bool(verdict.missed))
    return set(verdict.missed)


def test_what_lasts_is_missed() -> None:
    assert missed(figures(50, slow=50), figures(200, slow=200)) == {"p95_ms_max", "p99_ms_max"}
    assert missed(figures(50, failed=50), figures(200, failed=50)) == {"availability_min_pct", "max_error_budget_burn_5m"}


@pytest.mark.parametrize(
    ("window", "sliding"),
    [
        pytest.param(figures(0), figures(0), id="nothing happened"),
        pytest.param(figures(0), figures(0, slow=200), id="it is over, and nobody came since"),
        pytest.param(figures(100), figures(200, slow=200), id="it is over"),
        pytest.param(figures(19, slow=1), figures(99, slow=1), id="one slow answer"),
        pytest.param(figures(0, slow=1), figures(10, slow=1), id="one slow answer among few"),
        pytest.param(figures(5, failed=1), figures(50, failed=1), id="one failure"),
        pytest.param(figures(0, failed=2), figures(0, failed=2), id="two failures of two"),
        pytest.param(figures(0, slow=19), figures(0, slow=19), id="too few to tell"),
    ],
)
def test_what_is_over_single_or_seldom_is_not(window: Figures, sliding: Figures) -> None:
    assert missed(window, sliding) == set()


def test_few_requests_that_all_fail_are_missed_all_the_same() -> None:
    assert "availability_min_pct" in missed(figures(0, failed=5), figures(0, failed=5))


def test_a_budget_burns_as_fast_as_the_share_of_failures() -> None:
    assert figures(998, failed=2).burn(99.9) == pytest.approx(2.0)
    assert figures(0).burn(99.9) is None
