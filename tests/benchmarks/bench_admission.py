"""What limits cost: CPU time of one GET /v1/documents with everything on, against the same route without the stages, in the same run."""

import asyncio
import os
import statistics
from collections.abc import AsyncIterator
from contextlib import ExitStack

import aiohttp
import psutil
import pytest

from nexusrag.identity.api_keys.provision import create_key
from nexusrag.kernel.ids import new_id
from tests.benchmarks.bench_speed import env, free_port, process, servers  # noqa: F401 - fixtures
from tests.support.installation import Servers

REQUESTS = 1600
ROUNDS = 7
AT_ONCE = 8
# The stages of this kind: rates, places and units; and with them switches, budgets and service levels.
ADMISSION = ("rate limit", "quota")
ALL = (*ADMISSION, "switches", "cost", "service level", "mitigation")
LIMITS = {f"RL_{of}_READ_{what}": "1000000" for of in ("KEY", "TENANT") for what in ("RPS", "BURST")}


async def cpu_of(session: aiohttp.ClientSession, url: str, server: psutil.Process) -> float:
    """CPU seconds of the server for each of REQUESTS requests, AT_ONCE at a time."""
    before = server.cpu_times()

    async def one() -> None:
        for _ in range(REQUESTS // AT_ONCE):
            async with session.get(f"{url}/v1/documents") as answer:
                assert answer.status == 200 and "X-RateLimit-Status" not in answer.headers, await answer.text()
                await answer.read()

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    after = server.cpu_times()
    return (after.user + after.system - before.user - before.system) / REQUESTS


def listening_at(port: int) -> psutil.Process:
    """The child of ours that serves this port."""
    for child in psutil.Process(os.getpid()).children(recursive=True):
        if any(one.laddr.port == port for one in child.net_connections("tcp") if one.status == psutil.CONN_LISTEN):
            return child
    raise AssertionError(f"nobody listens at {port}")


@pytest.fixture
async def key(servers: Servers, env: dict[str, str]) -> AsyncIterator[str]:  # noqa: F811
    admin = await servers.admin()
    made = await create_key(admin, pepper=env["AUTH_KEY_PEPPER"], tenant=new_id("t").replace("_", "-"), role="admin", name="bench")
    await admin.close()
    yield made["api_key"]


@pytest.mark.timeout(600)
async def test_a_request_costs_at_most_half_as_much_again(servers: Servers, env: dict[str, str], key: str) -> None:  # noqa: F811
    env = {**env, **LIMITS, "RATE_LIMIT_ENABLED": "true"}
    ports = [free_port() for _ in range(3)]
    commands = [
        ["-m", "nexusrag.cli.main", "api"],
        ["-m", "tests.benchmarks.stripped", *ADMISSION],
        ["-m", "tests.benchmarks.stripped", *ALL],
    ]
    with ExitStack() as stack:
        started = zip(commands, ports, strict=True)
        urls = [stack.enter_context(process(command, {**env, "API_PORT": str(port)}, port)) for command, port in started]
        both = list(zip(urls, [listening_at(port) for port in ports], strict=True))
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
            for url, one in both:
                await cpu_of(session, url, one)  # warm
            rounds = [[await cpu_of(session, url, one) for url, one in both] for _ in range(ROUNDS)]
    everything, without, nothing = (statistics.median(column) * 1e6 for column in zip(*rounds, strict=True))
    ratio = statistics.median(row[0] / row[2] for row in rounds)
    own = statistics.median(row[0] / row[1] for row in rounds)
    print(f"\nCPU of GET /v1/documents: {everything:.0f} us, {without:.0f} us without admission, {nothing:.0f} us without all of it")
    print(f"ratio to none of it {ratio:.2f} (at most 1.5), of admission alone {own:.2f}")
    assert ratio <= 1.5
