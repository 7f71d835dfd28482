"""A circuit breaker, in Redis and in the process, does what a model does that was written down without looking at either."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from nexusrag.infra.breaker_state import ASK, REPORT, LocalState, Outcome, Rules, State
from nexusrag.kernel.ids import new_id
from tests.support.installation import Servers

RULES = Rules(threshold=3, open_ms=1_000_000, trials=2)
LEASE_MS = 300_000
# No sum of these is within ten seconds of any of the breaker's times, so that the time which a test itself takes changes nothing.
JUMPS_MS = [70_000, 210_000, 490_000, 1_130_000]


class Subject(Protocol):
    forgets_ms: int | None

    def ask(self, token: str) -> Any: ...
    def report(self, outcome: Outcome, token: str) -> Any: ...
    def pass_time(self, ms: int) -> None: ...


class InRedis:
    """Time passes by moving what is stored into the past."""

    forgets_ms = 3_600_000

    def __init__(self, client: "redis.Redis") -> None:
        self._client: Any = client
        self._key, self._index = new_id("cb"), new_id("cb")
        self._ask, self._report = client.register_script(ASK), client.register_script(REPORT)

    def ask(self, token: str) -> Any:
        return self._ask(keys=[self._key], args=[token, LEASE_MS, RULES.open_ms])

    def report(self, outcome: Outcome, token: str) -> Any:
        rules = [RULES.threshold, RULES.open_ms, RULES.trials, RULES.row_ms]
        return self._report(keys=[self._key, self._index], args=[outcome, token, "name", *rules])

    def pass_time(self, ms: int) -> None:
        for name in ("until", "lease"):
            if self._client.hexists(self._key, name):
                self._client.hincrby(self._key, name, -ms)
        left = self._client.pttl(self._key)
        if left > 0:
            self._client.pexpire(self._key, left - ms) if left > ms else self._client.delete(self._key)


class InProcess:
    forgets_ms = None

    def __init__(self) -> None:
        self._state = LocalState()
        self._now = 5

    def ask(self, token: str) -> Any:
        return self._state.ask(self._now, token, LEASE_MS)

    def report(self, outcome: Outcome, token: str) -> Any:
        return self._state.report(self._now, outcome, token, RULES)

    def pass_time(self, ms: int) -> None:
        self._now += ms


class Model(RuleBasedStateMachine):
    """The naive model: what happened, and what follows from it by the words of the guide."""

    make: Callable[[], Subject]

    def __init__(self) -> None:
        super().__init__()
        self.subject = type(self).make()
        self.now = 0
        self.failures: list[int] = []  # in a row
        self.opened: int | None = None
        self.successes = 0
        self.trying: tuple[str, int] | None = None  # token, end of its lease
        self.touched = 0
        self.tokens: list[str] = []

    def forget(self) -> None:
        last = self.failures[-1] if self.failures else 0
        if self.opened is None and self.now - last > RULES.row_ms:
            self.failures = []
        if self.opened is not None and self.subject.forgets_ms is not None and self.now > self.touched + self.subject.forgets_ms:
            self.close()

    def close(self) -> None:
        self.failures, self.opened, self.successes, self.trying = [], None, 0, None

    def open(self) -> None:
        self.close()
        self.opened, self.touched = self.now, self.now + RULES.open_ms

    @rule()
    def ask(self) -> None:
        self.forget()
        token = f"token-{len(self.tokens)}"
        state, number = self.subject.ask(token)
        if self.opened is None:
            assert (state, number) == (State.CLOSED, len(self.failures))
        elif self.now < self.opened + RULES.open_ms:
            assert state == State.REFUSED
            assert abs(number - (self.opened + RULES.open_ms - self.now)) < 10_000
        elif self.trying is not None and self.now < self.trying[1]:
            assert state == State.REFUSED
            assert 0 < number <= 1000
        else:
            assert state == State.TRY
            self.tokens.append(token)
            self.trying = (token, self.now + LEASE_MS)
            self.touched = self.now + LEASE_MS

    @rule(outcome=st.sampled_from(["ok", "failed", "failed", "failed"]))
    def report_of_an_ordinary_call(self, outcome: Outcome) -> None:
        self.forget()
        state, number = self.subject.report(outcome, "")
        if self.opened is None:
            self.failures = [] if outcome == "ok" else [*self.failures, self.now]
            if len(self.failures) == RULES.threshold:
                self.open()
        self.agrees(state, number)

    @precondition(lambda self: self.tokens)
    @rule(outcome=st.sampled_from(["ok", "ok", "failed", "unknown"]), which=st.integers(0, 100))
    def report_of_a_try(self, outcome: Outcome, which: int) -> None:
        """The latest one most of the time, else one that may be over."""
        self.forget()
        token = self.tokens[-1] if which > 20 else self.tokens[which % len(self.tokens)]
        state, number = self.subject.report(outcome, token)
        if self.trying is not None and self.trying[0] == token:
            self.trying = None
            if outcome == "failed":
                self.open()
            self.successes += outcome == "ok"
            if self.successes == RULES.trials:
                self.close()
        self.agrees(state, number)

    @rule(ms=st.sampled_from(JUMPS_MS))
    def pass_time(self, ms: int) -> None:
        self.now += ms
        self.subject.pass_time(ms)

    def agrees(self, state: int, number: int) -> None:
        if self.opened is None:
            assert (state, number) == (State.CLOSED, len(self.failures))
        elif self.now < self.opened + RULES.open_ms:
            assert state == State.REFUSED
        else:
            assert (state, number) == (State.HALF_OPEN, self.successes)


@pytest.fixture(scope="module")
def client(servers: Servers) -> Iterator["redis.Redis"]:
    held = redis.Redis.from_url(servers.settings.stores.redis_url.get_secret_value())
    yield held
    held.close()


LIMITS = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
def test_in_redis(client: "redis.Redis") -> None:
    class Machine(Model):
        make = staticmethod(lambda: InRedis(client))  # type: ignore[assignment]  # called through the class

    run_state_machine_as_test(Machine, settings=LIMITS)


def test_in_the_process() -> None:
    class Machine(Model):
        make = staticmethod(InProcess)  # type: ignore[assignment]  # called through the class

    run_state_machine_as_test(Machine, settings=LIMITS)
