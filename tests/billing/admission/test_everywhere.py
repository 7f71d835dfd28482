"""Limits hold over all processes, and what they cost is counted."""

import asyncio
import sys
from collections import Counter
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any

import aiohttp
import pytest

from nexusrag.billing.admission.facade import Admissions
from nexusrag.billing.admission.upkeep import Upkeep
from nexusrag.infra.redis import Redis
from nexusrag.infra.redis_line import Argument
from nexusrag.kernel.ids import new_id
from tests.billing.admission.conftest import limit, limited_by
from tests.billing.admission.test_places import RATES
from tests.support.api import Api
from tests.support.behind import count
from tests.support.installation import Servers
from tests.support.processes import api_process, until

pytestmark = pytest.mark.slow
# The command, with more patience for Redis than 0.1 s: whether this machine can keep up is not what is tested.
PATIENT = (
    sys.executable, "-c",
    "from nexusrag.cli import main; from nexusrag.infra.redis import Redis; Redis.__init__.__kwdefaults__['budget_s'] = 10; main.main()",
)  # fmt: skip


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
        started = [await stack.enter_async_context(api_process(servers, program=PATIENT, **env)) for _ in range(4)]
        urls = [url for _, url in started]
        began = monotonic()
        statuses = await asked_at(urls, bucket.key, 1000)
        assert set(statuses) == {200, 429}
        assert 5 <= statuses.count(200) <= 5 + (monotonic() - began) * 0.05

    async with AsyncExitStack() as stack:
        env = {"RATE_LIMIT_ENABLED": "false", "RL_REDIS_PREFIX": prefix}
        started = [await stack.enter_async_context(api_process(servers, program=PATIENT, **env)) for _ in range(2)]
        urls = [url for _, url in started]
        statuses = await asked_at(urls, cap.key, 300)
        assert (statuses.count(200), statuses.count(402)) == (50, 250)
        started[0][0].kill()
        assert set(await asked_at(urls[1:], cap.key, 20)) == {402}

        async def written() -> bool:
            statement = "select coalesce(sum(plain_units), 0) from usage_periods where tenant_id = $1 and period = 'day'"
            return await count(shared_api, statement, cap.tenant) == 50

        await until(written, 5)


async def test_a_request_asks_redis_once_on_its_way_in_and_once_on_its_way_out(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: Upkeep) -> None:
        """What the process asks by itself is no request's."""

    monkeypatch.setattr(Upkeep, "step", nothing)
    monkeypatch.setattr("nexusrag.billing.admission.store._EPOCH_MS", 600_000)  # without it, nothing else keeps what was loaded
    async with limited_by(servers, **RATES) as api:
        person = await api.person()

        async def all_out() -> bool:
            return not api.resources.get(Admissions).held

        await person.get("/v1/corpora")  # is looked up, and its units are loaded
        await until(all_out)
        connection, asked = api.resources.get(Redis).line._connection, Counter[Any]()
        assert connection is not None
        ask = connection.ask

        def counted(command: tuple[Argument, ...]) -> asyncio.Future[Any]:
            asked[command[:2]] += 1  # the name of the command and, of a script, its hash
            return ask(command)

        monkeypatch.setattr(connection, "ask", counted)
        for _ in range(200):
            assert (await person.get("/v1/corpora")).status_code == 200
        await until(all_out)
        assert sorted(asked.values()) == [200, 200], asked
