"""No connection to the database is held while a model talks, and many runs at once all end."""

import asyncio

import pytest

from tests.agents.scripted import asking, check_grammar, installation
from tests.support.installation import Servers


@pytest.mark.slow
async def test_with_a_pool_of_one_many_runs_talk_at_once_and_others_are_served(servers: Servers) -> None:
    async with installation(servers, API_DB_POOL_SIZE="1", API_DB_MAX_OVERFLOW="0") as single:
        person, corpus = await single.asker()
        release = asyncio.Event()
        question = single.model.play("one ", release, "two [1].")
        opened = [asking(person, corpus, question) for _ in range(8)]
        streams = await asyncio.gather(*(context.__aenter__() for context in opened))
        try:
            for stream in streams:
                await stream.read(2)
            assert single.model.open == 8
            # All of them talk; whoever held the one connection would keep these waiting until the pool gives up.
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*(person.get("/v1/documents") for _ in range(8)))
                found = await person.search(corpus, "Who is the lighthouse keeper?")
            assert {answer.status_code for answer in answers} == {200}
            assert found
            release.set()
            for stream in streams:
                check_grammar(await stream.rest())
                assert stream.events[-2].type == "message.final"
        finally:
            for context in opened:
                await context.__aexit__(None, None, None)


@pytest.mark.slow
async def test_256_runs_at_once_all_finish(servers: Servers) -> None:
    async with installation(servers, RUN_MAX_CONCURRENCY="256") as wide:
        person, corpus = await wide.asker()
        release = asyncio.Event()
        question = wide.model.play("one ", release, "two [1].")
        person.client.timeout = 60

        async def one() -> None:
            events = await person.run(corpus, question)
            check_grammar(events)
            assert events[-2].type == "message.final"

        limits = person.client._transport._pool  # type: ignore[attr-defined]  # httpx opens a hundred connections unless told
        limits._max_connections = 300
        running = asyncio.gather(*(one() for _ in range(256)))

        async def together() -> None:
            while wide.model.open < 256:
                if running.done():
                    await running
                await asyncio.sleep(0.01)

        await asyncio.wait_for(together(), 60)
        assert (await person.get("/v1/documents")).status_code == 200
        release.set()
        await asyncio.wait_for(running, 60)
