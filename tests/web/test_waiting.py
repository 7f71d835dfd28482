"""How long a connection may wait for what is to come: whoever sends nothing, or half of something, is hung up on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import orjson
import pytest

from nexusrag.kernel.ids import new_id
from nexusrag.web.door import Door, Headers
from tests.agents.scripted import installation
from tests.support.api import Api
from tests.support.installation import Servers, serving

ASKED = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def hasty(servers: Servers, patience: None) -> AsyncIterator[str]:
    async with serving(servers.settings) as (_, url):
        yield url


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"\r\n"], id="an empty line"),
        pytest.param([b"GET /v1/health HT"], id="half a head"),
        pytest.param([ASKED], id="nothing more"),
        pytest.param([ASKED, b"\r\n"], id="an empty line after a request"),
        pytest.param([ASKED, b"GET /v1/he"], id="half a head after a request"),
        pytest.param([ASKED + b"GET /v1/he"], id="half a head together with a request"),
    ],
)
async def test_whoever_does_not_go_on_is_hung_up_on(hasty: str, pieces: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection(urlsplit(hasty).hostname, urlsplit(hasty).port)
    try:
        answers = b""
        for piece in pieces:
            writer.write(piece)
            if piece.startswith(ASKED):
                answers += await reader.readuntil(b'"}}')
        async with asyncio.timeout(10):
            answers += await reader.read()
        assert answers.count(b"HTTP/1.1 200") == sum(piece.startswith(ASKED) for piece in pieces)
    finally:
        writer.close()


CHUNKED = b"GET /v1/health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        pytest.param(ASKED, b"\r\n", id="empty lines"),
        pytest.param(CHUNKED, b"1\r\nx\r\n", id="the body of a request that was answered"),
        pytest.param(CHUNKED + b"0\r\n", b"X-A: a\r\n", id="trailers"),
    ],
)
async def test_what_is_no_request_does_not_keep_a_connection(hasty: str, asked: bytes, more: bytes) -> None:
    reader, writer = await asyncio.open_connection(urlsplit(hasty).hostname, urlsplit(hasty).port)
    try:
        writer.write(asked)
        await reader.readuntil(b'"}}')
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(10):
                while True:
                    await asyncio.sleep(0.05)
                    writer.write(more)
                    await writer.drain()
    finally:
        writer.close()


async def test_a_head_may_come_in_pieces(api: Api) -> None:
    parts = urlsplit(api.base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        for piece in (ASKED[:9], ASKED[9:20], ASKED[20:]):
            writer.write(piece)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    finally:
        writer.close()


@pytest.mark.parametrize(("before", "after"), [(ASKED, b""), (b"", b"GET /v1/he"), (b"", ASKED + b"GET /v1/he")])
async def test_what_comes_together_with_a_stream_does_not_end_it(servers: Servers, patience: None, before: bytes, after: bytes) -> None:
    refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    async with installation(servers) as held:
        person, corpus = await held.asker()
        held.api.app.state.door = Door(lambda method, path, headers, seen: refused if path == "/v1/health" else None)
        body = orjson.dumps({"session_id": new_id("s"), "corpus_id": corpus, "message": held.model.play("one ", 1.2, "two [1].")})
        head = f"POST /v1/run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.key}\r\nContent-Type: application/json\r\n"
        reader, writer = await asyncio.open_connection(urlsplit(held.api.base_url).hostname, urlsplit(held.api.base_url).port)
        try:
            writer.write(before + f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + after)
            async with asyncio.timeout(10):
                await reader.readuntil(b"event: done\n")
        finally:
            writer.close()


async def test_of_the_requests_of_one_piece_one_is_answered_at_the_door(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait for each other: thousands, answered one after the other in one turn of the loop, would hold up everybody else."""
    seen: list[str] = []

    def refuse(method: str, path: str, headers: Headers, known: dict[bytes, bytes]) -> bytes | None:
        if (b"x-mine", b"yes") not in headers:
            return None
        seen.append(path)
        return b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

    monkeypatch.setitem(api.app.state._state, "door", Door(refuse))  # as an attribute it would not be put back
    mine = ASKED.replace(b"\r\n\r\n", b"\r\nX-Mine: yes\r\n\r\n")
    parts = urlsplit(api.base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(10):
            for _ in range(2):
                writer.write(mine * 10)
                statuses = []
                for _ in range(10):
                    await reader.readuntil(b"HTTP/1.1 ")
                    statuses.append(await reader.readexactly(3))
                assert statuses == [b"503", *[b"200"] * 9]
                await reader.readuntil(b'"}}')  # the last body: what comes before an answer is over joins those that wait
    finally:
        writer.close()
    assert len(seen) == 2


@pytest.mark.parametrize(("times", "taken"), [(500, True), (5000, False)])
async def test_requests_without_end_do_not_wait_for_the_answer_to_one(api: Api, times: int, taken: bool) -> None:
    parts = urlsplit(api.base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    answers = b""
    try:
        writer.write(ASKED * (times - 1) + ASKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        with suppress(ConnectionError):  # where it was closed before all was read
            async with asyncio.timeout(60):
                answers = await reader.read()
        assert (answers.count(b"HTTP/1.1 200") == times) is taken
    finally:
        writer.close()
