"""Readers that leave, and readers that stop reading: neither holds anything for longer than it may."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import monotonic

import psutil
import pytest

from nexusrag.agents.runs.registry import READERS_MAX, RunRegistry
from nexusrag.infra.bulkheads import Bulkheads
from nexusrag.kernel.ids import new_id
from tests.agents.scripted import Installation, Stream, asking, check_grammar, following, installation
from tests.support.api import Person, error_of, parse_events
from tests.support.installation import Servers, serving
from tests.support.processes import until

GRACE_S = 1.0


@pytest.fixture(scope="module")
async def narrow(servers: Servers) -> AsyncIterator[Installation]:
    """Four places, and a second of grace."""
    async with installation(servers, RUN_MAX_CONCURRENCY="4", RUN_DISCONNECT_GRACE_S=str(GRACE_S)) as held:
        yield held


def taken(held: Installation) -> int:
    return held.api.resources.get(Bulkheads)["run"].taken


async def all_free(held: Installation, within_s: float = GRACE_S + 5) -> None:
    async def free() -> bool:
        return taken(held) == 0 and held.model.open == 0

    await until(free, within_s)


@pytest.mark.slow
async def test_a_run_goes_on_without_its_reader_and_is_cancelled_after_the_grace(narrow: Installation) -> None:
    person, corpus = await narrow.asker()
    async with asking(person, corpus, narrow.model.play("one ", asyncio.Event())) as stream:
        await stream.read(2)
    left = monotonic()
    receipt = await narrow.receipt(person, stream.run_id)
    if monotonic() - left < GRACE_S / 2:
        assert receipt["state"] == "running"
    receipt = await narrow.ended(person, stream.run_id, GRACE_S + 5)
    assert (receipt["state"], receipt["error_code"]) == ("cancelled", "RUN_CANCELLED")
    await all_free(narrow)


async def test_a_run_that_ends_within_the_grace_ends_well(narrow: Installation) -> None:
    person, corpus = await narrow.asker()
    release = asyncio.Event()
    async with asking(person, corpus, narrow.model.play("one ", release, "two [1].")) as stream:
        await stream.read(2)
    release.set()
    assert (await narrow.ended(person, stream.run_id))["state"] == "succeeded"
    events = parse_events((await person.get(f"/v1/runs/{stream.run_id}/events")).text)
    check_grammar(events)
    assert events[-2].type == "message.final"
    await all_free(narrow)


@pytest.mark.slow
async def test_coming_back_within_the_grace_keeps_the_run(narrow: Installation) -> None:
    person, corpus = await narrow.asker()
    release = asyncio.Event()
    async with asking(person, corpus, narrow.model.play("one ", release, "two [1].")) as stream:
        await stream.read(2)
    async with following(person, stream.run_id, f"{stream.run_id}.2") as second:
        await asyncio.sleep(GRACE_S * 1.5)  # the time itself is what is tested
        release.set()
        events = await second.rest()
    assert [event.type for event in events] == ["token.delta", "message.final", "done"]
    await all_free(narrow)


async def test_a_second_reader_keeps_the_run_when_the_first_leaves(narrow: Installation) -> None:
    person, corpus = await narrow.asker()
    release = asyncio.Event()
    async with asking(person, corpus, narrow.model.play("one ", release, "two [1].")) as stream:
        await stream.read(2)
        second = following(person, stream.run_id, None)
        reader = await second.__aenter__()
        await reader.read(2)
    registry = narrow.api.resources.get(RunRegistry)

    async def one_left() -> bool:
        live = registry.get(stream.run_id)
        return live is not None and live.readers == 1

    await until(one_left)
    live = registry.get(stream.run_id)
    assert live is not None
    assert live.abandoned_at is None
    release.set()
    assert (await reader.rest())[-2].type == "message.final"
    await second.__aexit__(None, None, None)
    await all_free(narrow)


@pytest.mark.slow
async def test_twelve_abandoned_streams_with_four_places(narrow: Installation) -> None:
    """A new run takes the place of the one that was abandoned first, and in the end all are free."""
    person, corpus = await narrow.asker()
    streams: list[Stream] = []
    for _ in range(12):
        async with asking(person, corpus, narrow.model.play("one ", asyncio.Event())) as stream:
            assert stream.response.status_code == 200
            await stream.read(2)
            streams.append(stream)
            assert taken(narrow) <= 4
    await all_free(narrow)
    for stream in streams:
        assert (await narrow.ended(person, stream.run_id))["state"] == "cancelled"


async def test_live_readers_keep_their_places_and_a_fifth_is_refused_at_once(narrow: Installation) -> None:
    person, corpus = await narrow.asker()
    release = asyncio.Event()
    opened = [asking(person, corpus, narrow.model.play("one ", release, "two [1].")) for _ in range(4)]
    streams = [await context.__aenter__() for context in opened]
    try:
        for stream in streams:
            await stream.read(2)
        body = {"session_id": new_id("s"), "corpus_id": corpus, "message": "one more?"}
        refused = await person.post("/v1/run", json=body)
        assert error_of(refused) == ("SERVICE_BUSY", 503)
        assert refused.headers["Retry-After"] == "1"
        # Whoever only looks needs no place.
        async with following(person, streams[0].run_id, None) as reader:
            await reader.read(2)
        admin = await narrow.api.servers.admin()
        rows = await admin.fetch("select 1 from runs where tenant_id = $1 and question = 'one more?'", person.tenant)
        await admin.close()
        assert rows == []
        release.set()
        for stream in streams:
            assert (await stream.rest())[-2].type == "message.final"
    finally:
        for context in opened:
            await context.__aexit__(None, None, None)
    await all_free(narrow)


async def test_a_refused_run_gives_its_place_back(narrow: Installation) -> None:
    person, corpus = await narrow.asker()
    other = await narrow.api.person()
    session = new_id("s")
    await other.run(await other.corpus(), "mine?", session_id=session)
    for _ in range(6):
        answer = await person.post("/v1/run", json={"session_id": session, "corpus_id": corpus, "message": "whose?"})
        assert error_of(answer) == ("SESSION_TENANT_MISMATCH", 403)
    await all_free(narrow, 5)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_run_has_so_many_readers_and_no_more(scripted: Installation, where: str) -> None:
    person, corpus = await scripted.asker()
    release = asyncio.Event()
    async with (
        serving(scripted.settings) as (_, elsewhere),
        asking(person, corpus, scripted.model.play("one ", release, "two [1].")) as first,
        AsyncExitStack() as opened,
    ):
        await first.read(2)
        base_url = elsewhere if where == "elsewhere" else scripted.api.base_url
        path = f"{base_url}/v1/runs/{first.run_id}/events"
        readers = [
            await opened.enter_async_context(following(person, first.run_id, None, base_url))
            for _ in range(READERS_MAX - (where == "here"))  # the one who asked reads here
        ]
        refused = await person.get(path)
        assert error_of(refused) == ("SERVICE_BUSY", 503)
        assert refused.headers["Retry-After"] == "1"
        # Others are not in each other's way, not even with the same run in mind.
        stranger = await scripted.api.person()
        assert (await stranger.get(path)).status_code == 200
        release.set()
        for reader in readers:
            assert (await reader.rest())[-2].type == "message.final"

        async def free() -> bool:
            return (await person.get(path)).status_code == 200

        await until(free)


async def send(base_url: str, person: Person, corpus: str, question: str) -> socket.socket:
    """Ask over a bare socket with small buffers, and never read."""
    body = f'{{"session_id": "{new_id("s")}", "corpus_id": "{corpus}", "message": "{question}"}}'
    headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return await sent(base_url, person, "POST /v1/run", headers, body)


async def sent(base_url: str, person: Person, route: str, headers: str = "", body: str = "") -> socket.socket:
    """A connection with small buffers over which this was asked."""
    host, _, port = base_url.removeprefix("http://").partition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (host, int(port)))
    head = f"{route} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.key}\r\n{headers}"
    await loop.sock_sendall(connection, f"{head}\r\n{body}".encode())
    return connection


async def hung_up(connection: socket.socket) -> None:
    """Reading what was on its way ends in a reset or an end of file, and not in waiting."""

    async def gone() -> bool:
        try:
            return connection.recv(1 << 20) == b""
        except ConnectionError:
            return True
        except BlockingIOError:
            return False

    await until(gone, 10, 0)


@pytest.mark.slow
async def test_a_reader_that_stops_reading_is_cut_off_and_the_run_is_not_disturbed(servers: Servers) -> None:
    async with installation(servers, RUN_STALL_TIMEOUT_S="1", RUN_MAX_CONCURRENCY="4", RUN_DISCONNECT_GRACE_S="30") as held:
        person, corpus = await held.asker()
        release = asyncio.Event()
        # More than all buffers between us hold, and an end that comes after the reader was cut off.
        question = held.model.play(*["x" * 50_000] * 120, release, "[1].")
        registry = held.api.resources.get(RunRegistry)
        connection = await send(held.api.base_url, person, corpus, question)
        try:

            async def cut() -> bool:
                runs = list(registry._live.values())
                return bool(runs) and runs[0].abandoned_at is not None

            await until(cut, 20)
            (run,) = registry._live.values()

            await hung_up(connection)
            release.set()
            assert (await held.ended(person, run.run_id))["state"] == "succeeded"
        finally:
            connection.close()
        assert taken(held) == 0
        events = parse_events((await person.get(f"/v1/runs/{run.run_id}/events")).text)
        check_grammar(events)
        assert events[-2].type == "message.final"


@pytest.mark.slow
async def test_a_run_whose_reader_was_cut_off_gives_its_place_back_after_the_grace(servers: Servers) -> None:
    async with installation(servers, RUN_MAX_CONCURRENCY="1", RUN_STALL_TIMEOUT_S="1", RUN_DISCONNECT_GRACE_S=str(GRACE_S)) as held:
        person, corpus = await held.asker()
        registry = held.api.resources.get(RunRegistry)
        # More than all buffers between us hold, from a model that then never comes to an end.
        connection = await send(held.api.base_url, person, corpus, held.model.play(*["x" * 50_000] * 120, asyncio.Event()))
        try:

            async def cut() -> bool:
                return any(live.abandoned_at is not None for live in registry._live.values())

            await until(cut, 20)
            (run_id,) = registry._live
            assert taken(held) == 1
            await all_free(held)
            await hung_up(connection)
        finally:
            connection.close()
        receipt = await held.ended(person, run_id)
        assert (receipt["state"], receipt["error_code"]) == ("cancelled", "RUN_CANCELLED")
        assert (await person.run(corpus, "Who is the lighthouse keeper?"))[-2].type == "message.final"


@pytest.mark.slow
async def test_a_reader_of_a_finished_run_that_reads_nothing_is_cut_off(servers: Servers) -> None:
    async with installation(servers, RUN_STALL_TIMEOUT_S="1") as held:
        person, corpus = await held.asker()
        events = await person.run(corpus, held.model.play(*["x" * 50_000] * 120, "[1]."))  # more than all buffers between us hold
        assert events[-1].type == "done"
        path = f"/v1/runs/{events[0].data['data']['run_id']}/events"
        connection = await sent(held.api.base_url, person, f"GET {path}")
        ours, server = connection.getsockname()[1], psutil.Process()

        def stands() -> bool:
            ends = [one for one in server.net_connections("tcp") if one.raddr and one.raddr.port == ours]
            return any(one.status == psutil.CONN_ESTABLISHED for one in ends)

        try:

            async def there() -> bool:
                return stands()

            async def cut() -> bool:
                return not stands()

            await until(there)
            await until(cut, 10)
            await hung_up(connection)
        finally:
            connection.close()
        check_grammar(parse_events((await person.get(path)).text))


@pytest.mark.slow
async def test_a_slow_reader_that_goes_on_reading_is_not_cut_off(servers: Servers) -> None:
    async with installation(servers, RUN_STALL_TIMEOUT_S="1") as held:
        person, corpus = await held.asker()
        connection = await send(held.api.base_url, person, corpus, held.model.play(*["x" * 20_000] * 12, "[1]."))
        loop = asyncio.get_running_loop()
        received = b""
        try:
            while b"event: done\n" not in received[-4000:]:
                piece = await asyncio.wait_for(loop.sock_recv(connection, 16_384), 10)
                assert piece, "cut off"
                received += piece
                await asyncio.sleep(0.03)  # slower than the server could send
        finally:
            connection.close()
