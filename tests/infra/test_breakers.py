"""Circuit breakers over several processes: what they share, what they do alone, and what they cost."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from nexusrag.infra.breakers import Breakers, Permit
from nexusrag.infra.redis import Redis
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.settings.resilience import ResilienceSettings
from tests.support.installation import Servers
from tests.support.processes import ROOT, plain_environment, redis_proxy, until


@pytest.fixture
async def redis(servers: Servers) -> AsyncIterator[Redis]:
    held = Redis(servers.with_env().stores, budget_s=5)  # a busy machine is not what is tested
    yield held
    await held.close()


@pytest.fixture
def prefix() -> str:
    return new_id("cb")


def rules(prefix: str, **changes: Any) -> ResilienceSettings:
    return ResilienceSettings(cb_redis_prefix=prefix, **{"cb_failure_threshold": 3, "cb_open_seconds": 60, **changes})


async def fail(breakers: Breakers, tenant: str, times: int = 1, integration: str = "llm.openai") -> None:
    for _ in range(times):
        await breakers.report(await breakers.ask(integration, tenant, 1), "failed")


async def refusal(breakers: Breakers, tenant: str, integration: str = "llm.openai") -> ApiError:
    with pytest.raises(ApiError) as refused:
        await breakers.ask(integration, tenant, 1)
    return refused.value


async def wait_out(redis: Redis, prefix: str, tenant: str, integration: str = "llm.openai") -> None:
    """Let the time of an open breaker be over now."""
    await redis.client.hset(f"{prefix}:{integration} {tenant}", "until", 1)


async def test_a_clock_that_goes_back_keeps_nobody_out_for_longer_than_ever(redis: Redis, prefix: str) -> None:
    breakers, hour = Breakers(rules(prefix, cb_open_seconds=1), redis), 3_600_000
    await fail(breakers, "a", 3)
    seconds, _ = await redis.client.time()
    await redis.client.hset(f"{prefix}:llm.openai a", mapping={"until": seconds * 1000 + hour, "lease": seconds * 1000 + hour})

    async def tries() -> bool:
        forgotten(breakers)
        with contextlib.suppress(ApiError):
            return bool((await breakers.ask("llm.openai", "a", 1)).token)
        return False

    await until(tries, within_s=5)


async def test_failures_in_a_row_anywhere_open_it_everywhere_for_one_tenant_and_one_integration(redis: Redis, prefix: str) -> None:
    one, other = (Breakers(rules(prefix), redis) for _ in range(2))
    await fail(one, "a", 2)
    await fail(other, "a")
    for breakers in (one, other):
        forgotten(breakers)
        refused = await refusal(breakers, "a")
        assert refused.code is ErrorCode.INTEGRATION_UNAVAILABLE
        assert refused.headers == {"Retry-After": "60"}
        assert refused.details == {"integration": "llm.openai", "retry_after_s": 60}
        assert not (await breakers.ask("llm.openai", "b", 1)).token
        assert not (await breakers.ask("tts.openai", "a", 1)).token
    assert [(one.integration, one.tenant_id, one.state, one.retry_after_s) for one in await other.standing()] == [
        ("llm.openai", "a", "open", 60)
    ]
    assert await other.standing("b") == []


def forgotten(breakers: Breakers) -> None:
    """As if the second for which an answer is taken for true were over."""
    for known in breakers._known.values():
        known.fresh_until = 0


async def test_a_success_ends_the_row_and_is_told_only_then(redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    breakers = Breakers(rules(prefix), redis)
    asked: list[str] = []
    run = breakers._shared.run

    async def noting(script: str, keys: Any, arguments: Any) -> Any:
        asked.append(arguments[0])
        return await run(script, keys, arguments)

    monkeypatch.setattr(breakers._shared, "run", noting)
    for _ in range(50):
        await breakers.report(await breakers.ask("llm.openai", "a", 1), "ok")
    assert len(asked) == 1  # the first question
    await fail(breakers, "a", 2)
    await breakers.report(await breakers.ask("llm.openai", "a", 1), "ok")
    await breakers.report(await breakers.ask("llm.openai", "a", 1), "ok")
    assert asked[1:] == ["failed", "failed", "ok"]
    await fail(breakers, "a", 2)
    await breakers.ask("llm.openai", "a", 1)


async def test_what_was_left_or_failed_by_our_own_fault_changes_nothing(redis: Redis, prefix: str) -> None:
    breakers = Breakers(rules(prefix), redis)
    await fail(breakers, "a", 2)
    await breakers.report(await breakers.ask("llm.openai", "a", 1), "unknown")
    await fail(breakers, "a")
    await refusal(breakers, "a")


async def test_half_open_tries_one_call_at_a_time_until_enough_had_success(redis: Redis, prefix: str) -> None:
    one, other = (Breakers(rules(prefix), redis) for _ in range(2))
    await fail(one, "a", 3)
    await wait_out(redis, prefix, "a")
    for _ in range(2):
        forgotten(one)
        trying = await one.ask("llm.openai", "a", 5)
        assert trying.token
        forgotten(other)
        assert (await refusal(other, "a")).headers == {"Retry-After": "1"}
        await one.report(trying, "ok")
    forgotten(other)
    assert not (await other.ask("llm.openai", "a", 5)).token
    assert await one.standing() == []


async def test_a_failed_try_opens_it_anew_and_one_that_was_left_makes_room(redis: Redis, prefix: str) -> None:
    breakers = Breakers(rules(prefix), redis)
    await fail(breakers, "a", 3)
    await wait_out(redis, prefix, "a")
    forgotten(breakers)
    await breakers.report(await breakers.ask("llm.openai", "a", 5), "unknown")
    await breakers.report(await breakers.ask("llm.openai", "a", 5), "failed")
    assert (await refusal(breakers, "a")).headers == {"Retry-After": "60"}


async def test_a_success_before_a_failed_try_counts_no_more(redis: Redis, prefix: str) -> None:
    breakers = Breakers(rules(prefix), redis)
    await fail(breakers, "a", 3)
    for outcomes in (("ok", "failed"), ("ok", "unknown")):
        await wait_out(redis, prefix, "a")
        for outcome in outcomes:
            forgotten(breakers)
            await breakers.report(await breakers.ask("llm.openai", "a", 5), outcome)
    assert [one.state for one in await breakers.standing()] == ["half_open"]


async def test_reset_closes_one_tenants_or_all_of_an_integration_and_no_other(redis: Redis, prefix: str) -> None:
    breakers = Breakers(rules(prefix), redis)
    for tenant in ("a", "b", "c"):
        await fail(breakers, tenant, 3)
    await fail(breakers, "a", 3, "tts.openai")
    assert await breakers.reset("llm.openai", "a") == 1
    await breakers.ask("llm.openai", "a", 1)
    await refusal(breakers, "b")
    assert await breakers.reset("llm.openai") == 2
    await breakers.ask("llm.openai", "b", 1)
    await refusal(breakers, "a", "tts.openai")
    assert await breakers.reset("nobody") == 0
    fresh = Breakers(rules(prefix), redis)
    await fresh.ask("llm.openai", "c", 1)


@pytest.mark.slow
async def test_without_redis_each_process_has_its_own_and_remembers_what_it_heard(servers: Servers, prefix: str) -> None:
    async with redis_proxy(servers) as (proxy, url):
        away = Redis(servers.with_env(REDIS_URL=url).stores)
        breakers = Breakers(rules(prefix), away)
        await fail(breakers, "before", 3)
        proxy.refusing = True
        proxy.cut()
        forgotten(breakers)
        assert (await refusal(breakers, "before")).code is ErrorCode.INTEGRATION_UNAVAILABLE
        await fail(breakers, "after", 3)
        await refusal(breakers, "after")
        assert {(one.tenant_id, one.state) for one in await breakers.standing()} == {("before", "open"), ("after", "open")}
        assert await breakers.reset("llm.openai", "after") == 1
        await breakers.ask("llm.openai", "after", 1)
        proxy.refusing = False
        await until(lambda: away.ping())
        await away.close()


PROCESS = """
import asyncio, sys
from nexusrag.infra.breakers import Breakers
from nexusrag.infra.redis import Redis
from nexusrag.kernel.errors import ApiError
from nexusrag.settings.resilience import ResilienceSettings
from nexusrag.settings.stores import StoreSettings

async def ask(breakers):
    try:
        return await breakers.ask("llm.openai", "a", 30)
    except ApiError:
        return None

async def main(url, prefix):
    redis = Redis(StoreSettings(redis_url=url), budget_s=5)
    breakers = Breakers(ResilienceSettings(cb_redis_prefix=prefix, cb_half_open_trials=1), redis)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    refused = 0
    while True:
        permits = await asyncio.gather(*(ask(breakers) for _ in range(20)))
        for known in breakers._known.values():
            known.fresh_until = 0
        for permit in filter(None, permits):
            print("try" if permit.token else "call", flush=True)
        refused += permits.count(None)
        if refused >= 1000:
            print("refused", flush=True)
            refused = 0
        await asyncio.sleep(0.001)

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.contextmanager
def asking(servers: Servers, prefix: str, count: int) -> Iterator[list["subprocess.Popen[str]"]]:
    url = servers.settings.stores.redis_url.get_secret_value()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, url, prefix],
            env=plain_environment(), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]  # fmt: skip
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.slow
async def test_four_processes_make_one_try_and_another_when_its_maker_was_killed(servers: Servers, redis: Redis, prefix: str) -> None:
    await fail(Breakers(rules(prefix), redis), "a", 3)
    await wait_out(redis, prefix, "a")
    with asking(servers, prefix, 4) as processes:
        said: list[tuple[int, str]] = []

        async def listen(number: int, process: "subprocess.Popen[str]") -> None:
            while line := await asyncio.to_thread(process.stdout.readline):  # type: ignore[union-attr]  # it is a pipe
                said.append((number, line.strip()))

        def makers() -> list[int]:
            return [number for number, word in said if word == "try"]

        async def all_said(word: str) -> bool:
            return len({number for number, one in said if one == word}) == 4

        listening = [asyncio.create_task(listen(*one)) for one in enumerate(processes)]
        await until(lambda: all_said("ready"))
        for process in processes:
            process.stdin.write("\n")  # type: ignore[union-attr]  # it is a pipe
            process.stdin.flush()  # type: ignore[union-attr]  # it is a pipe
        await until(lambda: all_said("refused"))
        tries = makers()
        assert len(tries) == 1, said
        processes[tries[0]].kill()
        await redis.client.hincrby(f"{prefix}:llm.openai a", "lease", -30_000)

        async def another() -> bool:
            return len(makers()) > 1

        await until(another)
        assert makers()[1] != makers()[0]
        assert not [word for _, word in said if word == "call"]
        # The killed one's own report would come too late to count.
        assert (await redis.client.hget(f"{prefix}:llm.openai a", "token")) is not None
        for process in processes:
            process.kill()
        await asyncio.gather(*listening)


async def test_a_report_of_a_try_that_is_over_changes_nothing(redis: Redis, prefix: str) -> None:
    breakers = Breakers(rules(prefix), redis)
    await fail(breakers, "a", 3)
    await breakers.report(Permit("llm.openai", "a", "made-up"), "ok")
    await refusal(breakers, "a")
