"""`python -m tests.benchmarks.load [DIRECTORY]`: about two and a half minutes of load, and a report in DIRECTORY (var/load).

An installation of its own is put on the first processor, the load on the second. First the load rises from below what the installation
can do to five times as much, without rate limits, by tenants of three plans who run, search, list and upload. Then, with the usual
limits, quiet tenants are joined by one that asks for ten times its share. Everything goes to 127.0.0.1 and ends with the command.
"""

import asyncio
import os
import platform
import random
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from nexusrag.billing.plans.provision import switch
from nexusrag.infra import logs
from nexusrag.kernel.features import Feature
from tests.benchmarks.bench_speed import environment, free_port, process
from tests.benchmarks.crowd import DEADLINE_S, NO_RATES, Seen, ask, ms, pinned, tenant
from tests.benchmarks.load.client import Client
from tests.benchmarks.load.report import Answer, Phase, Run, Sample, write
from tests.support.installation import Servers

# How often which kind is asked for.
MIX = {"run": 4, "search": 2, "list": 3, "upload": 1}
RAMP = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)
PHASE_S, CALIBRATION_S, CLIENTS = 8.0, 3.0, 12
PLANS = ("free", "free", "pro", "pro", "enterprise", "enterprise")
QUIET = 6
_FIGURE = re.compile(r"^nexusrag_(loop_lag_seconds|requests_in_flight_limit|requests_in_flight) (\S+)$", re.MULTILINE)
Caller = tuple[str, dict[str, str]]  # a name for the report, and the headers of its credential
Choice = Callable[[], tuple[Caller, str]]


class Load:
    """One series of phases against one process."""

    def __init__(self, run: Run, client: Client) -> None:
        self.run, self.client = run, client
        self.begin()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Times count from here."""
        self._began = perf_counter()

    @property
    def now(self) -> float:
        return perf_counter() - self._began

    async def phase(self, name: str, *streams: tuple[float, Choice], seconds: float = PHASE_S, capacity: float = 0.0) -> None:
        """Offer so many requests a second, of each stream, whatever becomes of those before."""
        start, sent = self.now, [0] * len(streams)
        while (passed := self.now - start) < seconds:
            for place, (rate, choose) in enumerate(streams):
                while sent[place] < passed * rate:
                    task = asyncio.create_task(self._one(*choose()))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    sent[place] += 1
            await asyncio.sleep(0.002)
        self.run.phases.append(Phase(name, start, self.now, capacity))
        print(f"{self.run.title}: {name}, {sum(sent) / (self.now - start):.0f} a second", flush=True)

    async def end(self) -> None:
        """Wait for what is still under way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=30)

    async def watch(self) -> None:
        """Ask the process how it is, once a second: what it tells is up to a second old."""
        while True:
            try:
                _, text = await self.client.ask("GET", "/v1/metrics", {})
            except (OSError, EOFError, TimeoutError):
                continue
            told = {name: float(value) for name, value in _FIGURE.findall(text.decode())}
            self.run.samples.append(
                Sample(self.now, told["loop_lag_seconds"] * 1000, told["requests_in_flight_limit"], told["requests_in_flight"])
            )
            await asyncio.sleep(1)

    async def _one(self, caller: Caller, kind: str) -> None:
        who, headers = caller
        seen, at = Seen(), self.now
        await ask(self.client, headers, kind, seen)
        self.run.answers.append(Answer(at, self.now - at, who, kind, next(iter(seen.codes))))


async def capacity(load: Load, choose: Choice, seconds: float) -> float:
    """Good answers a second when each of CLIENTS asks again as soon as it is answered."""
    seen, end = Seen(seconds=seconds), perf_counter() + seconds

    async def one() -> None:
        while perf_counter() < end:
            (_, headers), kind = choose()
            await ask(load.client, headers, kind, seen)

    await asyncio.gather(*(one() for _ in range(CLIENTS)))
    return seen.goodput


def mixed(callers: list[Caller]) -> Choice:
    """Anybody, asking for anything in the usual proportions; the same in each test."""
    chance = random.Random(7)
    kinds, weights = list(MIX), list(MIX.values())
    return lambda: (chance.choice(callers), chance.choices(kinds, weights)[0])


def in_turn(callers: list[Caller], kind: str) -> Choice:
    """One after the other, for the same."""
    number = 0

    def choose() -> tuple[Caller, str]:
        nonlocal number
        number += 1
        return callers[number % len(callers)], kind

    return choose


async def ramp(servers: Servers, env: dict[str, str], url: str, client: Client) -> Run:
    """From below capacity to five times as much."""
    callers: list[Caller] = []
    for number, plan in enumerate(PLANS):
        made = await tenant(servers, env, url, plan=plan)
        admin = await servers.admin()
        await switch(admin, made.id, Feature.HIGH_QUOTA_TIER, "on")  # plans differ here in what is refused first, and not in quotas
        await admin.close()
        callers.append((f"{plan} {number % 2 + 1}", made.editors[0]))
    load = Load(Run("More and more", DEADLINE_S), client)
    choose = mixed(callers)
    await capacity(load, choose, 2 * CALIBRATION_S)
    load.begin()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(load.watch())
        for times in RAMP:
            most = await capacity(load, choose, CALIBRATION_S)
            await load.phase(f"{times:g} ×", (times * most, choose), capacity=most)
            await load.end()
        watching.cancel()
    return load.run


async def flood(servers: Servers, env: dict[str, str], url: str, client: Client) -> Run:
    """A tenant at ten times its limits of runs (3 a second) and readings (15) beside others below theirs."""
    quiet = [("quiet", (await tenant(servers, env, url)).editors[0]) for _ in range(QUIET)]
    flooding = [("flooding", headers) for headers in (await tenant(servers, env, url, editors=10)).editors]
    load = Load(Run("One tenant floods", DEADLINE_S), client)
    calm = [(0.8 * QUIET, in_turn(quiet, "run")), (4.0 * QUIET, in_turn(quiet, "list"))]
    await load.phase("calm", *calm)
    await load.phase("flood", *calm, (30.0, in_turn(flooding, "run")), (150.0, in_turn(flooding, "list")), seconds=2 * PHASE_S)
    await load.phase("calm again", *calm)
    await load.end()
    return load.run


Part = Callable[[Servers, dict[str, str], str, Client], Awaitable[Run]]


async def against(part: Part, servers: Servers, env: dict[str, str], processor: int) -> Run:
    """One part of the test against a process of its own."""
    port = free_port()
    with ExitStack() as stack:
        with pinned(processor):
            url = stack.enter_context(process(["-m", "nexusrag.cli.main", "api"], {**env, "API_PORT": str(port)}, port))
        client = Client(url)
        try:
            return await part(servers, env, url, client)
        finally:
            client.close()


async def main(servers: Servers, directory: Path, processor: int) -> None:
    env = {**environment(servers), "RATE_LIMIT_ENABLED": "true", "OVERLOAD_PROTECTION_ENABLED": "true"}
    rising = await against(ramp, servers, {**env, **NO_RATES}, processor)
    flooded = await against(flood, servers, env, processor)
    busy = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    about = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC. One API process, PostgreSQL and Redis on one processor ({platform.machine()}), the load "
        f"on another; the fake model answers at once. Load of the machine when it ended (1, 5, 15 minutes): {busy}. Times are the client's."
    )
    path = write(directory, rising, flooded, about)
    last = rising.within(rising.phases[-1])
    print(f"at {RAMP[-1]:g} times capacity a refusal takes {ms([one.took for one in last if one.code != 'ok']):.1f} ms (median)")
    print(f"report: {path}")


if __name__ == "__main__":
    logs.configure("ERROR")
    own = sorted(os.sched_getaffinity(0))
    with pinned(own[0]):
        held = Servers()
    if len(own) > 1:
        os.sched_setaffinity(0, {own[1]})
    try:
        asyncio.run(main(held, Path(sys.argv[1] if len(sys.argv) > 1 else "var/load"), own[0]))
    finally:
        held.close()
