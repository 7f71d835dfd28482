"""Which source of a switch wins, and how long what was forced holds."""

from time import monotonic

import pytest

from nexusrag.flags.switches.held import EVERYONE, Forced, Held
from nexusrag.kernel.switches import WRITE_FREEZE, Rollout, Switch
from nexusrag.settings.rollouts import RolloutSettings

AN_HOUR = 3600


def held(**given: object) -> Held:
    return Held(RolloutSettings(), **given)  # type: ignore[arg-type]  # as its fields


def for_(seconds: float, value: object = True) -> Forced:
    return Forced(value, monotonic() + seconds)


def test_forced_wins_over_stored_over_environment_over_default() -> None:
    environment = RolloutSettings(kill_run=True)
    assert not Held(RolloutSettings()).is_on(Switch.RUN)
    assert Held(environment).is_on(Switch.RUN)
    assert not Held(environment, stored={Switch.RUN: False}).is_on(Switch.RUN)
    forced = {(Switch.RUN, EVERYONE): for_(AN_HOUR)}
    assert Held(environment, stored={Switch.RUN: False}, forced=forced).is_on(Switch.RUN)
    assert [
        one.source(Switch.RUN)
        for one in (
            Held(RolloutSettings()), Held(environment), Held(environment, stored={Switch.RUN: False}),
            Held(environment, stored={Switch.RUN: False}, forced=forced),
        )
    ] == ["default", "environment", "stored", "forced"]  # fmt: skip


def test_what_is_forced_for_one_tenant_is_nobody_elses() -> None:
    one = held(forced={(Switch.TTS, "t1"): for_(AN_HOUR)})
    assert (one.is_on(Switch.TTS, "t1"), one.is_on(Switch.TTS, "t2"), one.is_on(Switch.TTS)) == (True, False, False)
    assert (one.speaks("t1"), one.speaks("t2")) == (False, True)
    assert one.source(Switch.TTS) == "default"


def test_a_flag_of_ones_own_stands_above_everyones() -> None:
    both = {(Switch.TTS, EVERYONE): for_(AN_HOUR), (Switch.TTS, "t1"): for_(AN_HOUR, False)}
    assert (held(forced=both).is_on(Switch.TTS, "t1"), held(forced=both).is_on(Switch.TTS, "t2")) == (False, True)


def test_a_forced_flag_ends_by_itself() -> None:
    over = held(forced={(Switch.RUN, EVERYONE): for_(-0.001), (WRITE_FREEZE, EVERYONE): for_(-0.001), (Switch.TTS, "t1"): for_(-0.001)})
    assert not over.is_on(Switch.RUN)
    assert not over.frozen
    assert over.speaks("t1")
    assert over.source(Switch.RUN) == "default"
    behind = {(Switch.TTS, "t1"): for_(-1), (Switch.TTS, EVERYONE): for_(AN_HOUR)}
    assert held(forced=behind).is_on(Switch.TTS, "t1")


@pytest.mark.parametrize(("switch", "percentage", "spoken"), [(False, 100.0, True), (True, 100.0, False), (False, 0.0, False)])
def test_a_tenant_has_what_neither_switch_nor_canary_keeps_from_it(switch: bool, percentage: float, spoken: bool) -> None:
    stored = {Switch.TTS: switch, Rollout.TTS: percentage, Switch.EXTERNAL_RETRIEVAL: switch, Rollout.EXTERNAL_RETRIEVAL: percentage}
    assert held(stored=stored).speaks("t1") is spoken
    assert held(stored=stored).asks_others("t1") is spoken
