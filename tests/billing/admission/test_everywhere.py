"""Limits hold over all processes, and what they cost is counted."""

import asyncio
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any

import aiohttp
import pytest

from nexusrag.infra.redis import Redis
from nexusrag.kernel.ids import new_id
from tests.billing.admission.conftest import limit, limited_by
from tests.billing.admission.test_places import RATES
from tests.support.api import Api
from tests.support.behind import count
from tests.support.installation import Servers
from tests.support.processes import api_process, until

pytestmark = pytest.mark.slow


async def asked_at(urls: list[str], key: str, times: int) -> list[int]:
    """Statuses of so many requests at once, spread over the processes."""
    connector = aiohttp.TCPConnector(limit=400)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}, connector=connector) as session:

        async def one(number: int) -> int:
            async with session.get(f"{urls[number % len(urls)]}/v1/corpora") as answer:
                await answer.read()
                assert "X-RateLimit-Status" not in answer.headers, "Redis was thought to be away"
                return answer.status

        return await asyncio.gather(*(one(number) for number in range(times)))


async def test_four_processes_share_their_limits_exactly(servers: Servers, shared_api: Api) -> None:
    """1,000 requests at once on a bucket of 5, and on a hard cap of 50; then one of them dies, and its counts stay."""
    slow = {name: "10000" if name.endswith("BURST") else "0.05" for name in RATES}
    prefix = new_id("test")
    bucket, cap = await shared_api.person(), await shared_api.person()
    await limit(shared_api, cap.tenant, daily_requests_limit=50, hard_cap_enabled=True)
    env = {"RATE_LIMIT_ENABLED": "true", "RL_REDIS_PREFIX": prefix, **slow, "RL_KEY_READ_BURST": "5"}
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(api_process(servers, **env)) for _ in range(4)]
        urls = [url for _, url in started]
        began = monotonic()
        statuses = await asked_at(urls, bucket.key, 1000)
        assert set(statuses) == {200, 429}
        assert 5 <= statuses.count(200) <= 5 + (monotonic() - began) * 0.05

    async with AsyncExitStack() as stack:
        env = {"RATE_LIMIT_ENABLED": "false", "RL_REDIS_PREFIX": prefix}
        started = [await stack.enter_async_context(api_process(servers, **env)) for _ in range(2)]
        urls = [url for _, url in started]
        statuses = await asked_at(urls, cap.key, 300)
        assert (statuses.count(200), statuses.count(402)) == (50, 250)
        started[0][0].kill()
        assert set(await asked_at(urls[1:], cap.key, 20)) == {402}

        async def written() -> bool:
            statement = "select coalesce(sum(plain_units), 0) from usage_periods where tenant_id = $1 and period = 'day'"
            return await count(shared_api, statement, cap.tenant) == 50

        await until(written, 5)


async def scripts_run(api: Api) -> tuple[int, int]:
    """Scripts and other commands that Redis has run."""
    info: dict[str, Any] = await api.resources.get(Redis).client.info("commandstats")
    scripts = sum(stats["calls"] for name, stats in info.items() if name.startswith("cmdstat_eval"))
    return scripts, info.get("cmdstat_set", {"calls": 0})["calls"]


async def test_a_request_asks_redis_once_on_its_way_in_and_once_on_its_way_out(servers: Servers) -> None:
    async with limited_by(servers, **RATES) as api:
        person = await api.person()
        await person.get("/v1/corpora")  # is looked up, and its units are loaded
        before = await scripts_run(api)
        for _ in range(200):
            assert (await person.get("/v1/corpora")).status_code == 200
        asked = (await scripts_run(api))[0] - before[0]
        # Beside them each process that lives looks after what was counted: this one and the tests' own.
        assert 400 <= asked <= 400 + 60
