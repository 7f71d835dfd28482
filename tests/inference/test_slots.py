"""Places among the model calls of all processes: no more than there are, given out fairly, and back from the dead."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from nexusrag.inference.slots.scripts import TAKE
from nexusrag.inference.slots.slots import ModelSlots
from nexusrag.infra.redis import Redis
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from tests.support.installation import Servers
from tests.support.processes import ROOT, plain_environment, redis_proxy, until

Make = Callable[..., ModelSlots]


@pytest.fixture
async def make(servers: Servers) -> AsyncIterator[Make]:
    """Makes what one process has of the places; all of a test share theirs."""
    prefix, made = new_id("slots"), []
    redis = Redis(servers.with_env().stores)

    def one(total: int = 2, *, wait_s: float = 10, lease_ms: int = 10_000, redis: Redis = redis) -> ModelSlots:
        env = {"LLM_MAX_CONCURRENCY": str(total), "LLM_SLOT_WAIT_TIMEOUT_S": str(wait_s), "LLM_SLOTS_OFFLINE": "true"}
        made.append(ModelSlots(servers.with_env(**env, LLM_SLOT_REDIS_PREFIX=prefix), redis, lease_ms=lease_ms))
        return made[-1]

    yield one
    for slots in made:
        await slots.close()
    await redis.close()


class Caller:
    """Somebody who wants a place, and holds it until told to stop."""

    def __init__(self, slots: ModelSlots, tenant: str, order: list[str] | None = None) -> None:
        self._slots = slots
        self._tenant = tenant
        self._order = order
        self._stop = asyncio.Event()
        self.has_it = False
        self.task = asyncio.create_task(self._call())

    async def _call(self) -> None:
        async with self._slots.place(self._tenant):
            self.has_it = True
            if self._order is not None:
                self._order.append(self._tenant)
            await self._stop.wait()
        self.has_it = False

    async def served(self) -> bool:
        return self.has_it

    async def stop(self) -> None:
        self._stop.set()
        await self.task


async def waiting(slots: ModelSlots, count: int) -> None:
    async def there() -> bool:
        return (await slots.look()).waiters.total() == count

    await until(there)


async def in_use(slots: ModelSlots, count: int) -> None:
    async def there() -> bool:
        return (await slots.look()).holders.total() == count

    await until(there)


async def renewed(slots: ModelSlots) -> None:
    """Wait until the one lease that there is ends later than it did."""

    async def end() -> float:
        ((_, at),) = await slots._redis.client.zrange(f"{slots._prefix}:held", 0, -1, withscores=True)
        return float(at)

    first = await end()

    async def later() -> bool:
        return await end() > first

    await until(later)


async def test_all_processes_together_have_as_many_places_as_there_are(make: Make) -> None:
    processes = [make(3) for _ in range(4)]
    held, most = 0, 0

    async def call(slots: ModelSlots, number: int) -> None:
        nonlocal held, most
        async with slots.place(f"t{number % 5}"):
            held += 1
            most = max(most, held)
            await asyncio.sleep(0.002)
            held -= 1

    await asyncio.gather(*(call(slots, number) for number in range(25) for slots in processes))
    assert most == 3
    await in_use(processes[0], 0)
    assert (await processes[0].look()).waiters.total() == 0


async def test_a_tenant_with_fewer_places_goes_first_and_within_one_who_waits_longest(make: Make) -> None:
    one, other = make(2), make(2)
    order: list[str] = []
    greedy = [Caller(one, "greedy", order)]
    await until(greedy[0].served)
    greedy.append(Caller(one, "greedy", order))
    await until(greedy[1].served)
    for count in range(1, 4):
        greedy.append(Caller(one, "greedy", order))
        await waiting(one, count)
    late = [Caller(other, "late", order)]
    await waiting(one, 4)
    late.append(Caller(other, "late", order))
    await waiting(one, 5)
    await greedy[0].stop()
    await until(late[0].served)
    await greedy[1].stop()
    await until(greedy[2].served)  # nobody has one more than the other: who waits longest
    await late[0].stop()
    await until(late[1].served)
    assert order == ["greedy", "greedy", "late", "greedy", "late"]
    for caller in (*greedy[2:], late[1]):
        await caller.stop()


@pytest.mark.parametrize("away", [False, True])
async def test_however_many_of_one_tenant_wait_another_ones_turn_comes(make: Make, away: bool) -> None:
    one = make(2)
    other = one if away else make(2)
    if away:
        one._shared._redis = None
    order: list[str] = []
    callers: list[Caller] = []
    for slots, tenant in [(one, "a"), (one, "b"), *([(one, "a"), (one, "b")] * 3), (other, "late")]:
        callers.append(Caller(slots, tenant, order))
        await (until(callers[-1].served) if len(callers) <= 2 else waiting(one, len(callers) - 2))
    for caller in callers[:5]:  # of tenants that hold as many, the one whose turn was longest ago
        before = len(order)
        await caller.stop()

        async def next_one(before: int = before) -> bool:
            return len(order) > before

        await until(next_one)
    assert order[:5] == ["a", "b", "late", "a", "b"]
    for caller in callers[5:]:
        await caller.stop()


async def test_a_long_queue_of_one_tenant_hides_nobody(make: Make) -> None:
    slots = make(1)
    holder = Caller(slots, "greedy")
    await until(holder.served)
    for number in range(1001):
        await slots._shared.run(TAKE, [slots._prefix], ["elsewhere", 1, 60_000, f"elsewhere-{number}", "greedy"])
    late = Caller(make(1), "late")
    await waiting(slots, 1002)
    await holder.stop()
    await until(late.served)
    await late.stop()


async def test_who_has_waited_long_enough_is_told_so_and_leaves_the_queue(make: Make) -> None:
    holding, impatient = make(1), make(1, wait_s=0.05)
    caller = Caller(holding, "a")
    await until(caller.served)
    with pytest.raises(ApiError) as refused:
        async with impatient.place("b"):
            pass
    assert (refused.value.code, refused.value.headers) == (ErrorCode.SERVICE_BUSY, {"Retry-After": "1"})
    await waiting(holding, 0)
    await caller.stop()
    async with impatient.place("b"):
        pass


async def test_who_gives_up_leaves_the_queue_and_the_next_one_is_served(make: Make) -> None:
    slots = make(1)
    holder = Caller(slots, "a")
    await until(holder.served)
    gone, next_one = Caller(slots, "b"), Caller(slots, "c")
    await waiting(slots, 2)
    gone.task.cancel()
    await waiting(slots, 1)
    await holder.stop()
    await until(next_one.served)
    await next_one.stop()
    with contextlib.suppress(asyncio.CancelledError):
        await gone.task


async def test_a_long_call_keeps_its_place_and_a_lost_one_is_learnt_anew(make: Make, servers: Servers) -> None:
    slots = make(1, lease_ms=1000)
    caller = Caller(slots, "a")
    await until(caller.served)
    await renewed(slots)
    assert (await slots.look()).holders == {"a": 1}
    await slots.reset()
    await in_use(slots, 1)
    await caller.stop()
    await in_use(slots, 0)


async def test_a_clock_that_goes_back_keeps_no_place_of_the_dead(make: Make) -> None:
    slots = make(1, lease_ms=500)
    client, (seconds, _) = slots._redis.client, await slots._redis.client.time()
    await client.zadd(f"{slots._prefix}:held", {"gone-1": seconds * 1000 + 3_600_000})
    await client.hset(f"{slots._prefix}:owners", "gone-1", "dead")
    caller = Caller(slots, "alive")
    await until(caller.served, within_s=5)
    await caller.stop()


async def test_reset_frees_every_place_for_those_who_wait(make: Make) -> None:
    slots = make(1)
    stuck, next_one = Caller(slots, "a"), None
    await until(stuck.served)
    next_one = Caller(slots, "b")
    await waiting(slots, 1)
    assert await slots.reset() == 1
    await until(next_one.served)
    await stuck.stop()
    await next_one.stop()


BEGIN = """
import asyncio, sys
from pathlib import Path
from nexusrag.inference.slots.slots import ModelSlots
from nexusrag.infra.redis import Redis
from nexusrag.settings import load

def slots(url, prefix, total, lease_ms):
    env = {"REDIS_URL": url, "LLM_MAX_CONCURRENCY": total, "LLM_SLOTS_OFFLINE": "true", "LLM_SLOT_REDIS_PREFIX": prefix}
    settings = load(Path("."), env)
    redis = Redis(settings.stores)
    return redis, ModelSlots(settings, redis, lease_ms=lease_ms)
"""
HOLDS = """
async def main(url, prefix):
    _, mine = slots(url, prefix, "1", 1000)
    async with mine.place("dead"):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""
COUNTS = """
async def main(url, prefix):
    redis, mine = slots(url, prefix, "3", 10000)
    most = 0

    async def call(number):
        nonlocal most
        async with mine.place(f"t{number % 4}"):
            most = max(most, await redis.client.incr(prefix + "-now"))
            await asyncio.sleep(0.003)
            await redis.client.decr(prefix + "-now")

    await asyncio.gather(*(call(number) for number in range(40)))
    print(most, flush=True)
    await mine.close()

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.contextmanager
def process(servers: Servers, script: str, prefix: str) -> "Iterator[subprocess.Popen[str]]":
    url = servers.settings.stores.redis_url.get_secret_value()
    command = [sys.executable, "-c", BEGIN + script, url, prefix]
    started = subprocess.Popen(command, env=plain_environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.mark.slow
async def test_four_processes_never_make_more_calls_than_there_are_places(servers: Servers) -> None:
    prefix = new_id("slots")
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(process(servers, COUNTS, prefix)) for _ in range(4)]
        most = [int(line) for line in await asyncio.gather(*(asyncio.to_thread(one.stdout.readline) for one in started if one.stdout))]
    assert max(most) == 3


@pytest.mark.slow
async def test_the_place_of_a_killed_process_comes_back_by_itself(make: Make, servers: Servers) -> None:
    slots = make(1, lease_ms=1000)
    with process(servers, HOLDS, slots._prefix) as holder:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
        caller = Caller(slots, "alive")
        await waiting(slots, 1)
        await renewed(slots)
        assert (await slots.look()).holders == {"dead": 1}
    await until(caller.served, within_s=5)
    await caller.stop()


@pytest.mark.slow
async def test_without_redis_a_process_gives_out_its_share_fairly(make: Make, servers: Servers) -> None:
    async with redis_proxy(servers) as (proxy, url):
        away = Redis(servers.with_env(REDIS_URL=url).stores)
        slots, neighbour = make(4, redis=away, lease_ms=500), make(4)
        async with neighbour.place("n"), slots.place("n"):
            pass  # by which each knows that there are two
        proxy.refusing = True
        proxy.cut()
        callers = [Caller(slots, "a"), Caller(slots, "a")]
        for caller in callers:
            await until(caller.served)
        callers += [Caller(slots, "a"), Caller(slots, "b")]

        async def two_wait() -> bool:
            return len(slots._waiting) == 2

        await until(two_wait)
        seen = await slots.look()
        assert (seen.everywhere, seen.holders.total(), seen.waiters.total()) == (False, 2, 2)
        await callers[0].stop()
        await until(callers[3].served)
        proxy.refusing = False

        async def known() -> bool:
            return (await neighbour.look()).holders == {"a": 2, "b": 1}

        await until(known)
        for caller in callers[1:]:
            await caller.stop()
        await slots.close()
        await away.close()


async def test_models_that_need_no_place_ask_nobody(servers: Servers) -> None:
    redis = Redis(servers.with_env().stores)
    assert ModelSlots(servers.with_env(), redis).total == 0
    assert ModelSlots(servers.with_env(LLM_PROVIDER="openai", LLM_BASE_URL="http://127.0.0.1:1/v1"), redis).total == 64
    await redis.close()
