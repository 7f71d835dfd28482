"""Processes that die or freeze in the middle of a run. The journal gets its end all the same, and one that wakes up writes nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from nexusrag.agents.runs.live import MAX_SEQ
from nexusrag.kernel.ids import new_id
from tests.agents.scripted import Stream, asking, check_grammar, code_of, following
from tests.support.api import Api, Event, Person, parse_events
from tests.support.installation import Servers, http
from tests.support.processes import Process, api_process, until

pytestmark = [pytest.mark.slow]
TALKATIVE = {"LLM_PROVIDER": "fake", "FAKE_LLM_DELTAS": "5000", "FAKE_LLM_DELAY_MS": "10", "RUN_DISCONNECT_GRACE_S": "60"}


@dataclass
class Talking:
    """A run in a process of its own, of which ten events have come."""

    process: Process
    url: str
    person: Person
    stream: Stream
    run_id: str

    async def journal(self, api: Api) -> str:
        async with http(api.base_url, self.person.key) as client:
            return (await client.get(f"/v1/runs/{self.run_id}/events")).text

    async def state(self, api: Api) -> str:
        async with http(api.base_url, self.person.key) as client:
            return str((await client.get(f"/v1/runs/{self.run_id}")).json()["data"]["state"])


@asynccontextmanager
async def talking(servers: Servers, api: Api, **env: str) -> AsyncIterator[Talking]:
    """`api` is another process than the one that runs it, and has the worker beside it."""
    person = await api.person()
    corpus = await person.corpus()
    await person.text(corpus, "The lighthouse keeper is called Ada Moreau.")
    async with api_process(servers, **{**TALKATIVE, **env}) as (process, url), http(url, person.key) as client:
        there = Person(client, {"tenant_id": person.tenant, "user_id": person.user_id, "key_id": person.key_id, "api_key": person.key})
        async with asking(there, corpus, "Who is the lighthouse keeper?", session_id=new_id("s")) as stream:
            await stream.read(10)
            yield Talking(process, url, person, stream, stream.run_id)


async def interrupted(api: Api, run: Talking) -> None:
    async def over() -> bool:
        return await run.state(api) == "interrupted"

    await until(over, within_s=15, every_s=0.1)


async def test_the_journal_of_a_killed_process_ends_within_15_seconds(servers: Servers, api: Api) -> None:
    async with talking(servers, api) as run, following(run.person, run.run_id, None, api.base_url) as elsewhere:
        await elsewhere.read(5)  # some of it is in the journal
        run.process.kill()
        with pytest.raises((httpx.TransportError, StopAsyncIteration, TimeoutError)):
            await run.stream.read(100_000)
        seen = run.stream.events
        assert seen[-1].type == "token.delta"
        await interrupted(api, run)
        written = await elsewhere.rest()
        assert elsewhere.text == await run.journal(api)
        check_grammar(written, closed_by_reaper=True)
        assert code_of(written) == "RUN_INTERRUPTED"
        for event, kept in zip(seen, written[:-2], strict=False):
            assert event == kept
        # Wherever the reader was, beyond what the process had written as well, it is told how the run ended.
        for after in (1, len(written) - 3, len(written) - 2, len(seen), len(written) + 50):
            assert await resumed(api, run, after) == written[min(after, len(written) - 2) :], after
        assert await resumed(api, run, MAX_SEQ - 1) == written[-1:]


async def resumed(api: Api, run: Talking, after: int) -> list[Event]:
    async with following(run.person, run.run_id, f"{run.run_id}.{after}", api.base_url) as stream:
        return await stream.rest()


async def test_a_process_that_wakes_up_after_its_lease_writes_nothing(servers: Servers, api: Api) -> None:
    async with talking(servers, api) as run:
        run.process.freeze()
        admin = await servers.admin()
        try:
            await admin.execute("update runs set leased_until = now() where id = $1", run.run_id)  # instead of waiting ten seconds
            await interrupted(api, run)
            written = await run.journal(api)
        finally:
            run.process.thaw()
            await admin.close()
        # It notices, and its reader gets the end from the journal, numbered behind all that it has been shown.
        seen = await run.stream.rest()
        assert [event.data["seq"] for event in seen] == sorted({event.data["seq"] for event in seen})
        assert [event.raw for event in seen[-2:]] == [event.raw for event in parse_events(written)[-2:]]
        assert code_of(seen) == "RUN_INTERRUPTED"

        async def idle() -> bool:
            async with http(run.url) as client:
                return "nexusrag_runs_active 0.0" in (await client.get("/v1/metrics")).text

        await until(idle)
        assert await run.journal(api) == written
        assert await run.state(api) == "interrupted"
        admin = await servers.admin()
        try:
            assert await admin.fetchval("select count(*) from messages where run_id = $1", run.run_id) == 0
        finally:
            await admin.close()


async def test_a_process_that_is_told_to_stop_ends_its_runs_itself(servers: Servers, api: Api) -> None:
    async with talking(servers, api) as run:
        run.process.terminate()
        seen = await run.stream.rest()
        check_grammar(seen)
        assert code_of(seen) == "RUN_INTERRUPTED"
        assert await run.process.ended(10) == 0, run.process.output()
        assert await run.state(api) == "interrupted"  # not by the reaper: the lease had not run out
        assert await run.journal(api) == run.stream.text
        admin = await servers.admin()
        try:
            assert await admin.fetchval("select epoch from runs where id = $1", run.run_id) == 1
        finally:
            await admin.close()


async def test_a_process_that_is_told_to_stop_lets_what_is_nearly_done_finish(servers: Servers, api: Api) -> None:
    async with talking(servers, api, FAKE_LLM_DELTAS="60") as run:
        run.process.terminate()

        async def deaf() -> bool:
            async with httpx.AsyncClient() as client:
                try:
                    await client.get(f"{run.url}/v1/health")
                except httpx.TransportError:
                    return True
                return False

        await until(deaf, 5)
        seen = await run.stream.rest()
        check_grammar(seen)
        assert seen[-2].type == "message.final"
        assert await run.process.ended(10) == 0, run.process.output()
        assert await run.journal(api) == run.stream.text
