"""Calls to outside systems: what is asked again, how often, and what counts against whom."""

import asyncio

import pytest

from nexusrag.infra.integrations import Failed, Integrations
from nexusrag.infra.retries import OURS, RetryBudget, Verdict, of_status
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings.resilience import ResilienceSettings

AWAY = Verdict(theirs=True, again=True)


class Upstream:
    """Answers what it is told to; counts how often it is asked."""

    def __init__(self, *outcomes: Verdict | None) -> None:
        self.outcomes = list(outcomes)
        self.always: Verdict | None = None
        self.asked = 0

    async def ask(self) -> str:
        self.asked += 1
        verdict = self.outcomes.pop(0) if self.outcomes else self.always
        if verdict is not None:
            raise Failed(ConnectionError(f"attempt {self.asked}"), verdict)
        return "answer"


def integrations(**changes: int) -> Integrations:
    return Integrations(ResilienceSettings(**{"ext_retry_backoff_ms": 1, **changes}))


async def test_a_failure_that_may_pass_is_asked_again_and_the_last_one_is_told() -> None:
    upstream = Upstream(AWAY, AWAY, AWAY, AWAY, AWAY)
    calls = integrations(ext_retry_max_attempts=3, cb_failure_threshold=100)
    with pytest.raises(ConnectionError, match="attempt 3"):
        await calls.calling("x", "t", 1).answer(upstream.ask)
    assert await calls.calling("x", "t", 1).answer(upstream.ask) == "answer"
    upstream.always = AWAY
    with pytest.raises(ConnectionError, match="attempt 7"):
        await calls.calling("x", "t", 1, attempts=1).answer(upstream.ask)


@pytest.mark.parametrize("verdict", [OURS, of_status(401), of_status(404), of_status(422), Verdict(True, False), of_status(503, "60")])
async def test_a_lasting_failure_is_not_asked_again_nor_one_whose_pause_is_long(verdict: Verdict) -> None:
    upstream = Upstream(verdict)
    with pytest.raises(ConnectionError):
        await integrations().calling("x", "t", 1).answer(upstream.ask)
    assert upstream.asked == 1


async def test_the_pause_that_the_other_side_asks_for_is_kept() -> None:
    loop = asyncio.get_running_loop()
    for status in (408, 429, 500, 503):
        upstream, began = Upstream(of_status(status, "1")), loop.time()
        call = integrations().calling("x", "t", 1)
        async with call.attempt() as attempt:
            attempt.failed(of_status(status, "1"))
        pause = call.pause(of_status(status, "1"))
        assert pause is not None
        assert pause >= 1
        assert await integrations().calling("x", "t", 1).answer(Upstream(of_status(status, "0")).ask) == "answer"
        assert loop.time() - began < 1
        assert upstream.asked == 0


async def test_pauses_grow_and_differ() -> None:
    pauses = []
    for _ in range(20):
        call = integrations(ext_retry_max_attempts=3, ext_retry_backoff_ms=100).calling("x", "t", 1)
        for _ in range(2):
            async with call.attempt() as attempt:
                attempt.failed(AWAY)
            pauses.append(call.pause(AWAY) or 0)
    assert all(0.05 <= pause <= 0.15 for pause in pauses[::2])
    assert all(0.1 <= pause <= 0.3 for pause in pauses[1::2])
    assert len(set(pauses)) == len(pauses)


@pytest.mark.parametrize("healthy", [0, 1000])
async def test_in_an_outage_all_tenants_together_ask_a_tenth_more_than_was_offered(healthy: int) -> None:
    """Each of many tenants comes once, so that no breaker opens: the budget alone holds."""
    calls, upstream = integrations(), Upstream()
    for number in range(healthy):
        await calls.calling("x", f"h{number}", 1).answer(upstream.ask)
    upstream.asked, upstream.always = 0, AWAY
    for number in range(200):
        with pytest.raises(ConnectionError):
            await calls.calling("x", f"t{number}", 1).answer(upstream.ask)
    assert 200 < upstream.asked <= 220


async def test_who_fails_takes_no_retry_from_another_integration() -> None:
    calls, bad, model = integrations(cb_failure_threshold=10_000), Upstream(), Upstream(AWAY)
    bad.always = AWAY
    for number in range(30):
        with pytest.raises(ConnectionError):
            await calls.calling(f"sso.idp{number}", "a", 1).answer(bad.ask)
    assert bad.asked == 40  # all identity providers together have one budget
    assert await calls.calling("llm.openai", "b", 1).answer(model.ask) == "answer"


async def test_with_one_call_in_two_failing_retries_stay_within_a_tenth() -> None:
    calls, upstream = integrations(cb_failure_threshold=10_000), Upstream()
    for number in range(1000):
        upstream.always = AWAY if number % 2 else None
        try:
            await calls.calling("x", "t", 1).answer(upstream.ask)
        except ConnectionError:
            pass
    assert upstream.asked <= 1100


def test_ten_successes_earn_one_retry_and_ten_are_the_most() -> None:
    budget = RetryBudget()
    assert sum(budget.spend() for _ in range(50)) == 10
    for _ in range(10):
        budget.earn()
    assert sum(budget.spend() for _ in range(50)) == 1
    for _ in range(1000):
        budget.earn()
    assert sum(budget.spend() for _ in range(50)) == 10


async def test_an_open_breaker_calls_nobody_and_other_tenants_go_on() -> None:
    calls, upstream = integrations(ext_retry_max_attempts=1), Upstream()
    upstream.always = AWAY
    for _ in range(5):
        with pytest.raises(ConnectionError):
            await calls.calling("x", "a", 1).answer(upstream.ask)
    with pytest.raises(ApiError) as refused:
        await calls.calling("x", "a", 1).answer(upstream.ask)
    assert refused.value.code is ErrorCode.INTEGRATION_UNAVAILABLE
    assert upstream.asked == 5
    upstream.always = None
    assert await calls.calling("x", "b", 1).answer(upstream.ask) == "answer"
    assert await calls.reset("x", "a") == 1
    assert await calls.calling("x", "a", 1).answer(upstream.ask) == "answer"


async def test_bad_credentials_and_bad_input_open_no_breaker() -> None:
    calls, upstream = integrations(), Upstream()
    upstream.always = of_status(401)
    for _ in range(20):
        with pytest.raises(ConnectionError):
            await calls.calling("x", "a", 1).answer(upstream.ask)
    assert upstream.asked == 20
    assert await calls.standing() == []


async def test_the_failure_that_opens_it_is_told_as_it_was_and_not_asked_again() -> None:
    calls, upstream = integrations(cb_failure_threshold=1), Upstream(AWAY)
    with pytest.raises(ConnectionError):
        await calls.calling("x", "a", 1).answer(upstream.ask)
    assert upstream.asked == 1


async def test_a_call_that_is_given_up_says_nothing() -> None:
    calls = integrations(cb_failure_threshold=1)

    async def never() -> None:
        await asyncio.Event().wait()

    waiting = asyncio.create_task(calls.calling("x", "a", 1).answer(never))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await calls.standing() == []
