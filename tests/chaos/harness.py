"""Kills, one after another: a write is sent to a process that dies at a point of its way, and again to one that lives.

What is measured: how many processes died, where, and whether each write had exactly one effect, one event, one charge.
"""

import asyncio
import itertools
import os
import random
import re
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import httpx
from redis.asyncio import Redis

from nexusrag.identity.api_keys.provision import create_key
from nexusrag.kernel.ids import new_id
from tests.chaos.census import census, differences, invoiced, plain_units, unbalanced, under_way, uninvoiced
from tests.chaos.nursery import Child, Nursery, nursery
from tests.chaos.provider import WORDS, InvoicingProvider, invoicing_provider, settings_for
from tests.chaos.writes import JOBS, RUN, WRITES, Send, Write
from tests.support.api import Person
from tests.support.installation import Servers

# Everything is on, and nothing is refused.
ENV = {
    "RATE_LIMIT_ENABLED": "true",
    **{
        f"RL_{who}_{kind}_{what}": "100000"
        for who in ("KEY", "TENANT")
        for kind in ("RUN", "MUTATION", "READ", "OPS")
        for what in ("RPS", "BURST")
    },
    "RL_ADDRESS_RPS": "100000",
    "RL_ADDRESS_BURST": "100000",
    "API_DB_POOL_SIZE": "4",
    "INGEST_MAX_CONCURRENCY": "24",
}  # fmt: skip
SURVIVORS = "main"
WAITING = "waiting"  # a queue that no worker looks at
_MOVE = "update jobs set queue = $2 where tenant_id = $1 and state in ('queued', 'running') and run_at < now() + interval '10 minutes'"
_DECISIVE = re.compile("COMMIT|idempotency|ledger|jobs|file|answer|token")
# What a run that was cut off leaves differs: its tokens are compared with the provider's invoice instead.
_OF_RUNS = ("units of", "tokens of", "micro", "lines of", "llm quantity", "embedding quantity", "retrieval quantity", "charged run")


@dataclass
class Trial:
    """One write in a tenant of its own. `point`: where its first process died."""

    write: Write
    tenant: str
    process: str
    point: str | None = None
    passed: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass
class Report:
    """Of a whole series."""

    trials: list[Trial]
    faults: list[str]
    waited: int
    extra_units: Counter[int]
    took_s: float

    @property
    def kills(self) -> int:
        return sum(trial.point is not None for trial in self.trials)

    def lines(self) -> list[str]:
        at = Counter(trial.point for trial in self.trials if trial.point)
        of = Counter(f"{trial.write.name} ({trial.process})" for trial in self.trials if trial.point)
        return [
            f"{self.kills} kills at {len(at)} points in {self.took_s:.0f} s; effects lost or doubled: {len(self.faults)}; "
            f"answers 409 while the dead one's transaction ended: {self.waited}",
            "units that were counted beyond those of one request, as that of the request which died, and how often: "
            f"{dict(sorted(self.extra_units.items()))}",
            *(f"  {number:4} of {name}" for name, number in of.most_common()),
            *(f"  {number:4} {name}" for name, number in at.most_common()),
            *self.faults,
        ]


class Harness:
    """Survivors that are never killed, and victims."""

    def __init__(self, servers: Servers, admin: "asyncpg.Connection[Any]", young: Nursery, provider: InvoicingProvider) -> None:
        self._servers = servers
        self._admin = admin
        self._looking = asyncio.Lock()  # one statement at a time on this connection
        self._nursery = young
        self._provider = provider
        self._redis = Redis.from_url(servers.settings.stores.redis_url.get_secret_value())
        self._survivors: dict[str, Child] = {}
        self._disturbed = False
        self.waited = 0

    async def begin(self) -> None:
        for name in ("main", "held"):
            self._survivors[name] = await self._nursery.fork("api", name, fatal=0)
        self._survivors["worker"] = await self._nursery.fork("worker", "main", fatal=0, queue=SURVIVORS)
        for child in self._survivors.values():
            await _ready(child)

    async def close(self) -> None:
        await self._redis.aclose()

    async def kill_many(self, kills: int, *, seed: int, at_once: int = 4, disturbed: bool = False) -> Report:
        """So many kills of writes at points of their way that `seed` chooses; every fifth write while a worker does it.

        `disturbed`: meanwhile Redis forgets everything now and then, clients of runs hang up, and what workers do at intervals, such as
        closing what the dead left open, dies with them too.
        """
        self._disturbed = disturbed
        began, dice = monotonic(), random.Random(seed)
        scouts = [*(self._way(write) for write in WRITES), *(self._way_of_job(write) for write in JOBS)]
        order = (*WRITES, RUN, RUN)
        ways = {(trial.process, trial.write.name): trial for trial in await asyncio.gather(*scouts)}
        done: list[Trial] = []
        numbers = itertools.count()

        async def go_on() -> None:
            while sum(trial.point is not None for trial in done) < kills:
                number = next(numbers)
                assert number < 2 * kills + 20, "most processes do not die"
                process, writes = ("worker", JOBS) if number % 5 == 4 else ("api", order)
                write = writes[(number // 5 if process == "worker" else number - number // 5) % len(writes)]
                fatal = _chosen(dice, ways[process, write.name].passed)
                async with asyncio.timeout(150):
                    done.append(await (self._kill(write, fatal) if process == "api" else self._kill_worker(write, fatal)))
                if disturbed and number % 10 == 0:
                    await self._disturb(dice.randint(0, WORDS))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(go_on())
        await self._quiet()
        faults, extra = await self._judge(done, ways)
        return Report(done, faults, self.waited, extra, monotonic() - began)

    async def _way(self, write: Write) -> Trial:
        """The write without a kill, which is what all others are compared with, and the points that it passes."""
        scout = await self._nursery.fork("api", "main")
        person, send = await self._prepared(write, "main")
        trial = Trial(write, person.tenant, "api")
        await _ready(scout)
        async with _client(scout.url, person.key) as client:
            answer = await send(client, {"Idempotency-Key": "once", "X-Chaos": "1"})
            assert answer.status_code < 300, answer.text
        await asyncio.sleep(0.05)
        trial.passed = list(scout.passed)
        self._end(scout)
        await self._settled(person.tenant)
        return trial

    async def _way_of_job(self, write: Write) -> Trial:
        person, send = await self._prepared(write, "held")
        trial = Trial(write, person.tenant, "worker")
        answer = await send(person.client, {"Idempotency-Key": "once"})
        assert answer.status_code < 300, answer.text
        scout = await self._work_of(person.tenant, None)
        await self._settled(person.tenant)
        await asyncio.sleep(0.05)
        trial.passed = list(scout.passed)
        self._end(scout)
        return trial

    async def _kill(self, write: Write, fatal: int) -> Trial:
        victim = await self._nursery.fork("api", "main", fatal=fatal)
        person, send = await self._prepared(write, "main")
        trial = Trial(write, person.tenant, "api")
        await _ready(victim)
        first = None
        async with _client(victim.url, person.key) as client:
            try:
                first = await send(client, {"Idempotency-Key": "once", "X-Chaos": "1"})
            except httpx.TransportError:
                pass
        await self._over(victim)
        trial.point = victim.died_at
        await self._again(trial, person, send, first)
        await person.client.aclose()
        return trial

    async def _kill_worker(self, write: Write, fatal: int) -> Trial:
        person, send = await self._prepared(write, "held")
        trial = Trial(write, person.tenant, "worker")
        first = await send(person.client, {"Idempotency-Key": "once"})
        victim = await self._work_of(person.tenant, fatal)
        while not victim.ended.is_set() and await self._sql(_UNDER_WAY + " and tenant_id = $1", person.tenant):
            await asyncio.sleep(0.02)
        await self._over(victim)
        trial.point = victim.died_at
        await self._sql(_MOVE, person.tenant, SURVIVORS)
        await self._again(trial, person, send, first)
        await person.client.aclose()
        return trial

    async def _work_of(self, tenant: str, fatal: int | None) -> Child:
        """A worker that finds the tenant's jobs alone."""
        queue = new_id("queue")
        await self._sql(_MOVE, tenant, queue)
        child = await self._nursery.fork("worker", "held", fatal=fatal, queue=queue, crons=self._disturbed)
        await _ready(child)
        return child

    async def _disturb(self, after: int) -> None:
        """A client hangs up after some pieces of its answer, and never asks again; and Redis forgets what it had."""
        person, _ = await self._prepared(RUN, "main")
        corpus = (await person.get("/v1/corpora")).json()["data"][0]["id"]
        async with person.running(corpus) as answer:
            pieces = answer.aiter_bytes()
            for _ in range(after):
                await anext(pieces, None)
        await person.client.aclose()
        await self._redis.flushall()

    async def _again(self, trial: Trial, person: Person, send: Send, first: httpx.Response | None) -> None:
        """What a client does that got no answer: the same once more; and, to see what stands, a third time."""
        answers = [first] if first is not None else []
        for _ in range(2):
            answers.append(await self._answered(person, send))
        trial.answers = [f"{answer.status_code}{' replayed' if 'Idempotency-Replayed' in answer.headers else ''}" for answer in answers]
        last = answers[-1]
        if "Idempotency-Replayed" not in last.headers:
            trial.faults.append("the third request was not answered from the store")
        if any(answer.status_code != last.status_code for answer in answers):
            trial.faults.append(f"different answers: {trial.answers}")
        if not trial.write.secret and not trial.write.asks and any(answer.content != last.content for answer in answers):
            trial.faults.append(f"different bodies: {[answer.text[:300] for answer in answers]}")

    async def _answered(self, person: Person, send: Send) -> httpx.Response:
        while True:
            answer = await send(person.client, {"Idempotency-Key": "once"})
            if answer.status_code != 409 or answer.json()["error"]["code"] != "IDEMPOTENCY_IN_PROGRESS":
                return answer
            assert answer.headers["Retry-After"] == "1"
            self.waited += 1
            await asyncio.sleep(0.02)

    async def _prepared(self, write: Write, settings: str) -> tuple[Person, Send]:
        tenant = new_id("t").replace("_", "-")
        pepper = self._servers.settings.auth.auth_key_pepper.get_secret_value()
        async with self._looking:
            made = await create_key(self._admin, pepper=pepper, tenant=tenant, role="admin", name="Chaos")
        person = Person(_client(self._survivors["main"].url, made["api_key"]), made)
        send = await write.prepare(person)
        await self._settled(tenant)
        if settings != "main":
            await person.client.aclose()
            person = Person(_client(self._survivors[settings].url, made["api_key"]), made)
        return person, send

    async def _settled(self, tenant: str) -> None:
        """Nothing of the tenant is under way."""
        while await self._sql(_UNDER_WAY + " and tenant_id = $1", tenant):
            await asyncio.sleep(0.02)

    async def _quiet(self, within_s: float = 120) -> None:
        """Leases of the dead have run out, and what they held has been taken over and settled."""
        async with asyncio.timeout(within_s):
            while (
                await self._under_way()
                or await self._uninvoiced()
                or await self._redis.exists("nexusrag:rl:dirty")  # units that PostgreSQL was not told yet
            ):
                await asyncio.sleep(0.25)

    async def _under_way(self) -> list[str]:
        async with self._looking:
            return await under_way(self._admin)

    async def _uninvoiced(self) -> list[str]:
        async with self._looking:
            return await uninvoiced(self._admin, self._provider)

    async def _judge(self, trials: Sequence[Trial], clean: dict[tuple[str, str], Trial]) -> tuple[list[str], Counter[int]]:
        async with self._looking:
            seen = await census(self._admin)
            counted = await plain_units(self._admin)
            faults = [f"counters and ledger differ: {line}" for line in await unbalanced(self._admin)]
            faults += await invoiced(self._admin, self._provider)
        extra: Counter[int] = Counter()
        for trial in trials:
            expected = clean[trial.process, trial.write.name].tenant
            without = _OF_RUNS if trial.write.asks else ()
            trial.faults += differences(seen[expected], seen[trial.tenant], without=without)
            faults += [f"{trial.write.name} killed {trial.process} {trial.point} {trial.answers}: {fault}" for fault in trial.faults]
            extra[counted[trial.tenant] - counted[expected]] += 1
        return faults, extra

    async def _sql(self, statement: str, *values: Any) -> list[Any]:
        async with self._looking:
            return list(await self._admin.fetch(statement, *values))

    async def _over(self, victim: Child) -> None:
        """It is dead: at its point, or, where it did not come by, now."""
        try:
            async with asyncio.timeout(0.3):
                await victim.ended.wait()
        except TimeoutError:
            self._end(victim)
            await victim.ended.wait()

    def _end(self, child: Child) -> None:
        if not child.ended.is_set():
            try:
                os.kill(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


_UNDER_WAY = "select 1 from jobs where state in ('queued', 'running') and run_at < now() + interval '10 minutes'"


def _chosen(dice: random.Random, passed: Sequence[str]) -> int:
    """The number of a point: each name as likely as any other, however often it is passed, and where effects become durable more so."""
    names = sorted(set(passed))
    name = dice.choice(names + 2 * [name for name in names if _DECISIVE.search(name)])
    return dice.choice([number for number, one in enumerate(passed, 1) if one == name])


def _client(url: str, key: str) -> httpx.AsyncClient:
    # Certificates, which nobody shows here, take longer to load than all the rest.
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120, verify=False)


async def _ready(child: Child) -> None:
    async with asyncio.timeout(30):
        await child.ready.wait()
    assert child.failure is None, child.failure
    assert not child.ended.is_set()


@asynccontextmanager
async def harness(servers: Servers) -> AsyncIterator[Harness]:
    """Everything that is forked here ends with it."""
    async with invoicing_provider() as provider:
        env = {**ENV, **settings_for(provider)}
        settings = {
            "main": servers.with_env(**env, INGEST_QUEUE_NAME=SURVIVORS),
            "held": servers.with_env(**env, INGEST_QUEUE_NAME=WAITING),
        }
        admin = await servers.admin()
        with tempfile.TemporaryDirectory(prefix="nrt-chaos-") as directory:
            try:
                async with nursery(settings, Path(directory)) as young:
                    held = Harness(servers, admin, young, provider)
                    await held.begin()
                    try:
                        yield held
                    finally:
                        await held.close()
            finally:
                await admin.close()
