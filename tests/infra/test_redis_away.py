"""Redis carries wake-ups and nothing else: without it everything goes on, a little later."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from nexusrag.embedded.redis import EmbeddedRedis
from nexusrag.infra.redis import Redis
from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person
from tests.support.installation import Servers, serving, working
from tests.support.processes import Proxy, redis_proxy, until


class Installation(NamedTuple):
    api: Api
    proxy: Proxy

    def lose_redis(self) -> None:
        self.proxy.refusing = True
        self.proxy.cut()


@pytest.fixture
async def installation(servers: Servers) -> AsyncIterator[Installation]:
    """An API and a worker with a queue of their own, whose Redis can be taken away."""
    async with redis_proxy(servers) as (proxy, url):
        settings = servers.with_env(REDIS_URL=url, INGEST_QUEUE_NAME=new_id("queue"))
        async with serving(settings) as (app, base_url), working(settings):
            api = Api(servers, app, base_url)
            try:
                yield Installation(api, proxy)
            finally:
                proxy.refusing = False
                await api.close()


async def degraded(person: Person) -> list[str]:
    answer = await person.get("/v1/ops/health")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"]["degraded"])


@pytest.mark.slow
async def test_an_upload_is_accepted_and_done_without_redis(installation: Installation) -> None:
    person = await installation.api.person()
    corpus = await person.corpus()
    installation.lose_redis()
    await person.text(corpus, "The lighthouse keeper is called Ada.")
    assert await person.search(corpus, "Who keeps the lighthouse?")


@pytest.mark.slow
async def test_runs_and_reads_go_on_without_redis(installation: Installation) -> None:
    person = await installation.api.person()
    corpus = await person.corpus()
    document = await person.text(corpus, "The lighthouse keeper is called Ada.")
    installation.lose_redis()
    events = await person.run(corpus, "Who is the lighthouse keeper?")
    assert [event.type for event in events][-2:] == ["message.final", "done"]
    run_id = events[-1].data["data"].get("run_id") or events[0].data["data"]["run_id"]
    replayed = await person.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": f"{run_id}.1"})
    assert replayed.text == "".join(event.raw for event in events[1:])
    assert (await person.get(f"/v1/documents/{document}")).status_code == 200
    assert (await person.get("/v1/corpora")).status_code == 200


@pytest.mark.slow
async def test_ops_health_names_redis_while_it_is_away_and_no_longer(installation: Installation) -> None:
    person = await installation.api.person()

    async def settled() -> bool:
        return await degraded(person) == []

    await until(settled)
    installation.lose_redis()
    assert await degraded(person) == ["redis"]
    installation.proxy.refusing = False
    assert await degraded(person) == []


@pytest.mark.slow
async def test_wake_ups_ring_again_once_redis_is_back(installation: Installation) -> None:
    person = await installation.api.person()
    corpus = await person.corpus()
    installation.lose_redis()
    await person.text(corpus, "First.")
    installation.proxy.refusing = False

    await until(lambda: installation.api.resources.get(Redis).wake("nobody"))
    await person.text(corpus, "Second.")


@pytest.mark.slow
async def test_a_redis_that_hangs_costs_callers_next_to_nothing(servers: Servers) -> None:
    """SIGSTOP: connections stay open and nobody answers. Each caller gives up after a tenth of a second, then none tries for a second."""
    server = EmbeddedRedis(servers.home)
    pid = server._main_pid()
    assert pid is not None
    redis = Redis(servers.with_env().stores)
    loop = asyncio.get_running_loop()
    try:
        assert await redis.ping()
        os.kill(pid, signal.SIGSTOP)
        try:
            began = loop.time()
            assert [await redis.wake("nobody") for _ in range(50)] == [False] * 50
            assert loop.time() - began < 4
        finally:
            os.kill(pid, signal.SIGCONT)

        await until(lambda: redis.wake("nobody"))
    finally:
        await redis.close()
