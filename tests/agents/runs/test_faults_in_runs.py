"""Faults around the model: whatever breaks, each reader gets one coded error or the answer, and done."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest

from nexusrag.agents.runs import reaper
from nexusrag.agents.runs.registry import RunRegistry
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.providers.embeddings.fake import FakeEmbedder
from nexusrag.providers.embeddings.port import Embedder
from tests.agents.scripted import Installation, asking, check_grammar, code_of, following, installation, run_id_of
from tests.support.api import error_of, parse_events
from tests.support.installation import Servers
from tests.support.processes import Proxy, database_proxy, until


class BrokenEmbedder(FakeEmbedder):
    """Fails with what it is given."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def embed(self, texts: object, *, urgent: bool = False, tenant_id: str = "") -> object:  # type: ignore[override]  # it never returns
        raise self._error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ApiError(ErrorCode.INTEGRATION_UNAVAILABLE, "The embedding model is away."), "INTEGRATION_UNAVAILABLE"),
        (ZeroDivisionError(), "INTERNAL_ERROR"),
    ],
)
async def test_an_embedder_that_fails(scripted: Installation, error: BaseException, code: str) -> None:
    person, corpus = await scripted.asker()
    resources = scripted.api.resources
    whole = resources.get(Embedder)
    resources.put(Embedder, BrokenEmbedder(error))
    try:
        events = await person.run(corpus, "Who is the lighthouse keeper?")
    finally:
        resources.put(Embedder, whole)
    check_grammar(events)
    assert code_of(events) == code
    assert (await scripted.receipt(person, run_id_of(events)))["state"] == "failed"


def once_after(statement: bytes, cut: asyncio.Event) -> Callable[[bytes], bool]:
    """Cut the connection of the first COMMIT after `statement`, once the server has got it."""
    seen = []

    def look(piece: bytes) -> bool:
        if statement in piece:
            seen.append(piece)
        if not seen or b"COMMIT" not in piece or cut.is_set():
            return False
        cut.set()
        return True

    return look


class Broken(NamedTuple):
    installation: Installation
    proxy: Proxy

    def lose_database(self) -> None:
        self.proxy.refusing = True
        self.proxy.cut()

    def find_database(self) -> None:
        self.proxy.refusing = False


@pytest.fixture
async def broken(servers: Servers) -> AsyncIterator[Broken]:
    """An installation whose database can be taken away."""
    async with database_proxy(servers) as (proxy, url), installation(servers, DATABASE_URL=url) as held:
        yield Broken(held, proxy)


async def test_connections_lost_while_the_model_talks_are_not_noticed_by_the_reader(broken: Broken) -> None:
    person, corpus = await broken.installation.asker()
    release = asyncio.Event()
    async with asking(person, corpus, broken.installation.model.play("one ", release, "two [1].")) as stream:
        await stream.read(2)
        broken.proxy.cut()
        release.set()
        events = await stream.rest()
    check_grammar(events)
    assert events[-2].type == "message.final"
    assert (await broken.installation.receipt(person, stream.run_id))["state"] == "succeeded"
    assert (await person.get(f"/v1/runs/{stream.run_id}/events")).text == stream.text


async def test_a_database_that_stays_away_ends_the_run_with_a_code_and_the_next_one_works(broken: Broken) -> None:
    person, corpus = await broken.installation.asker()
    session, release = new_id("s"), asyncio.Event()
    async with asking(person, corpus, broken.installation.model.play("one ", release, "two."), session_id=session) as stream:
        await stream.read(2)
        broken.lose_database()
        release.set()
        events = await stream.rest()
    check_grammar(events)
    assert code_of(events) == "SERVICE_UNAVAILABLE"
    assert error_of(await person.get("/v1/corpora")) == ("SERVICE_UNAVAILABLE", 503)
    broken.find_database()
    events = await person.run(corpus, "Who is the lighthouse keeper?", session_id=session)
    check_grammar(events)
    assert events[-2].type == "message.final"


async def test_a_database_that_was_away_for_longer_than_the_lease_ends_the_run_as_its_journal_says(
    broken: Broken, scripted: Installation
) -> None:
    """The reaper of another process has closed it meanwhile. What the reader was shown in between is numbered before that end."""
    person, corpus = await broken.installation.asker()
    go_on, release = asyncio.Event(), asyncio.Event()
    admin = await broken.installation.api.servers.admin()
    try:
        async with asking(person, corpus, broken.installation.model.play("one ", go_on, "two ", release, "three.")) as stream:
            await stream.read(2)
            broken.lose_database()
            go_on.set()
            await stream.read(3)
            await admin.execute("update runs set leased_until = now() where id = $1", stream.run_id)  # instead of waiting ten seconds
            await reaper.close_abandoned(scripted.api.resources)
            broken.find_database()
            release.set()
            events = await stream.rest()
    finally:
        await admin.close()
    check_grammar(events, closed_by_reaper=True)
    assert code_of(events) == "RUN_INTERRUPTED"
    assert (await broken.installation.receipt(person, stream.run_id))["state"] == "interrupted"
    written = parse_events((await person.get(f"/v1/runs/{stream.run_id}/events")).text)
    assert written[-2:] == events[-2:]
    assert len(written) < len(events)


async def test_whoever_follows_a_journal_outlasts_a_database_that_is_away(broken: Broken, scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    release = asyncio.Event()
    async with asking(person, corpus, scripted.model.play("one ", release, "two [1].")) as stream:
        await stream.read(2)
        elsewhere = broken.installation.api.base_url
        async with following(person, stream.run_id, None, elsewhere) as follower:
            await follower.read(2)
            broken.lose_database()
            release.set()
            events = await stream.rest()
            await asyncio.sleep(0.6)  # a look at the journal, in vain
            broken.find_database()
            assert await follower.rest() == events


async def test_a_database_lost_before_the_retrieval_ends_the_run_with_a_code(broken: Broken) -> None:
    person, corpus = await broken.installation.asker()
    resources = broken.installation.api.resources
    whole = resources.get(Embedder)

    class Slow(FakeEmbedder):
        async def embed(self, texts: object, *, urgent: bool = False, tenant_id: str = "") -> object:  # type: ignore[override]  # as its parent
            broken.lose_database()
            return await FakeEmbedder.embed(self, texts, urgent=urgent)  # type: ignore[arg-type]  # as its parent

    resources.put(Embedder, Slow())
    try:
        events = await person.run(corpus, "Who is the lighthouse keeper?")
    finally:
        resources.put(Embedder, whole)
        broken.find_database()
    check_grammar(events)
    assert code_of(events) == "SERVICE_UNAVAILABLE"


async def test_an_end_whose_answer_is_lost_counts_as_what_it_is(broken: Broken) -> None:
    """The end of the run is written, and the connection dies before that is heard of: what is asked again finds it there."""
    person, corpus = await broken.installation.asker()
    release, cut = asyncio.Event(), asyncio.Event()
    async with asking(person, corpus, broken.installation.model.play("one ", release, "two [1].")) as stream:
        await stream.read(2)

        def the_end(piece: bytes) -> bool:
            if b"event: message.final" not in piece or cut.is_set():
                return False
            cut.set()
            return True

        broken.proxy.cut_after = the_end
        release.set()
        events = await stream.rest()
    assert cut.is_set()
    check_grammar(events)
    assert events[-2].type == "message.final"
    assert (await broken.installation.receipt(person, stream.run_id))["state"] == "succeeded"
    assert (await person.get(f"/v1/runs/{stream.run_id}/events")).text == stream.text


async def test_a_flush_whose_answer_is_lost_does_not_spoil_the_journal(broken: Broken) -> None:
    person, corpus = await broken.installation.asker()
    go_on, release, cut = asyncio.Event(), asyncio.Event(), asyncio.Event()
    broken.proxy.cut_after = once_after(b"journal_append", cut)
    admin = await broken.installation.api.servers.admin()
    try:
        async with asking(person, corpus, broken.installation.model.play("one ", go_on, "two ", release, "three [1].")) as stream:
            await asyncio.wait_for(cut.wait(), 10)
            await stream.read(2)
            go_on.set()

            async def journalled() -> bool:
                """The next flush brings along what the first one seemed to have lost."""
                return bool(await admin.fetchval("select count(*) from run_events where run_id = $1", stream.run_id) >= 3)

            await until(journalled, 5)
            release.set()
            events = await stream.rest()
    finally:
        await admin.close()
    check_grammar(events)
    assert events[-2].type == "message.final"
    assert (await person.get(f"/v1/runs/{stream.run_id}/events")).text == stream.text


async def test_an_end_that_is_being_written_is_not_cancelled_any_more(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    release = asyncio.Event()
    registry = scripted.api.resources.get(RunRegistry)
    admin = await scripted.api.servers.admin()
    try:
        async with asking(person, corpus, scripted.model.play("one ", release, "two [1].")) as stream:
            await stream.read(2)
            live = registry.get(stream.run_id)
            assert live is not None
            async with admin.transaction():
                await admin.execute("select 1 from runs where id = $1 for update", stream.run_id)
                release.set()

                async def closing() -> bool:
                    return live.closing

                await until(closing)
                registry.stop(live, ErrorCode.RUN_CANCELLED)
            events = await stream.rest()
    finally:
        await admin.close()
    check_grammar(events)
    assert events[-2].type == "message.final"
    assert (await scripted.receipt(person, stream.run_id))["state"] == "succeeded"


@pytest.mark.slow
async def test_a_row_that_somebody_holds_for_too_long_neither_spoils_the_run_nor_its_lease(servers: Servers) -> None:
    """Statements run into their time limit: the journal catches up, renewals go on, and a cancel without a notice still arrives."""
    async with installation(servers, API_DB_STATEMENT_TIMEOUT_MS="300") as quick:
        person, corpus = await quick.asker()
        never = asyncio.Event()
        admin = await servers.admin()
        try:
            async with asking(person, corpus, quick.model.play("one ", never)) as stream:
                await stream.read(2)
                async with admin.transaction():
                    await admin.execute("select 1 from runs where id = $1 for update", stream.run_id)
                    await asyncio.sleep(3.5)  # longer than the pause between renewals
                await admin.execute("update runs set cancel_requested = true where id = $1", stream.run_id)
                events = await stream.rest()
        finally:
            await admin.close()
        check_grammar(events)
        assert code_of(events) == "RUN_CANCELLED"


@pytest.mark.slow
async def test_an_end_that_cannot_be_written_is_shown_all_the_same(servers: Servers) -> None:
    async with installation(servers, API_DB_STATEMENT_TIMEOUT_MS="300") as quick:
        person, corpus = await quick.asker()
        release = asyncio.Event()
        admin = await servers.admin()
        try:
            async with asking(person, corpus, quick.model.play("one ", release, "two.")) as stream:
                await stream.read(2)
                async with admin.transaction():
                    await admin.execute("select 1 from runs where id = $1 for update", stream.run_id)
                    release.set()
                    events = await stream.rest()
        finally:
            await admin.close()
        check_grammar(events)
        assert code_of(events) == "SERVICE_UNAVAILABLE"


@pytest.mark.slow
async def test_cancelling_at_any_moment_leaves_a_whole_stream(scripted: Installation) -> None:
    """A cancel may fall into the very moment in which the run ends."""
    person, corpus = await scripted.asker()

    async def one(turns: int) -> None:
        release = asyncio.Event()
        async with asking(person, corpus, scripted.model.play("one ", release, "two [1].")) as stream:
            await stream.read(2)
            cancelling = asyncio.create_task(person.post(f"/v1/runs/{stream.run_id}/cancel"))
            for _ in range(turns):
                await asyncio.sleep(0)
            release.set()
            events = await stream.rest()
            assert (await cancelling).status_code == 200
        check_grammar(events)

        async def same() -> bool:
            return (await person.get(f"/v1/runs/{stream.run_id}/events")).text == stream.text

        await until(same)

    await asyncio.gather(*(one(turns) for turns in range(0, 60, 3)))
