"""Refused by a head that was refused before: the same answer as ever, and nothing that follows is lost or taken for something else."""

import asyncio
from collections.abc import AsyncIterator
from itertools import accumulate, pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nexusrag.settings import load
from nexusrag.web import door as door_module
from nexusrag.web.door import Door, Head, Headers
from tests.support.installation import ENV, listening


class Guard:
    """Refuses whoever says so in a header, unless `lenient`, and keeps the headers that it was asked about."""

    def __init__(self) -> None:
        self.asked: list[Headers] = []
        self.lenient = self.is_crowded = False

    def __call__(self, method: str, path: str, headers: Headers, seen: dict[bytes, bytes]) -> bytes | None:
        self.asked.append(headers)
        given = dict(headers)
        if self.lenient or b"x-refuse" not in given:
            return None
        return b"HTTP/1.1 503 Service Unavailable\r\nX-Id: %b\r\nContent-Length: 0\r\n\r\n" % given[b"x-id"]


class Caller:
    """A connection, and what is answered on it: status and X-Id."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def sends(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0.005)

    async def answer(self) -> tuple[int, str]:
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            fields = dict(line.split(": ", 1) for line in head[1:] if line)
            await self._reader.readexactly(int(fields["content-length"]))
        return int(head[0].split()[1]), fields["x-id"]

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def guard() -> Guard:
    return Guard()


@pytest.fixture
async def url(guard: Guard, tmp_path: Path) -> AsyncIterator[str]:
    app = FastAPI()
    app.state.door = Door(guard, lambda: guard.is_crowded)
    app.state.drains, app.state.resources = (), None

    @app.api_route("/v1/echo", methods=["GET", "POST"])
    async def echo(request: Request) -> Response:
        return Response(await request.body(), headers={"X-Id": request.headers["x-id"]})

    async with listening(app, load(tmp_path, ENV)) as base_url:
        yield base_url


@pytest.fixture
async def caller(url: str) -> AsyncIterator[Caller]:
    held = await connected(url)
    yield held
    held.close()


async def connected(url: str) -> Caller:
    return Caller(*await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port))


def request(name: str, *, refused: bool = True, body: bytes = b"", chunked: bool = False) -> bytes:
    lines = [f"{'POST' if body else 'GET'} /v1/echo HTTP/1.1", "Host: x", f"X-Id: {name}"]
    lines += ["X-Refuse: yes"] if refused else []
    if chunked:
        return (
            "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode()
            + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"")
            + b"0\r\n\r\n"
        )
    lines += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_the_second_time_nothing_is_parsed(guard: Guard, caller: Caller) -> None:
    for _ in range(3):
        await caller.sends(request("a", body=b"12345"))
        assert await caller.answer() == (503, "a")
    assert len(guard.asked) == 3
    assert guard.asked[0] is guard.asked[1] is guard.asked[2]


async def test_it_is_asked_each_time_and_only_once(guard: Guard, caller: Caller) -> None:
    for lenient, status in ((False, 503), (True, 200), (False, 503)):
        guard.lenient = lenient
        await caller.sends(request("a", body=b"12345"))
        assert await caller.answer() == (status, "a")
    assert len(guard.asked) == 3


async def test_another_connection_is_known_by_the_same_head(guard: Guard, caller: Caller, url: str) -> None:
    await caller.sends(request("a"))
    assert await caller.answer() == (503, "a")
    other = await connected(url)
    try:
        await other.sends(request("b", refused=False))  # a connection's first request is always parsed
        assert await other.answer() == (200, "b")
        await other.sends(request("a"))
        assert await other.answer() == (503, "a")
    finally:
        other.close()
    assert guard.asked[2] is guard.asked[0]


async def test_what_follows_empty_lines_is_not_known_by_them(guard: Guard, caller: Caller) -> None:
    for name in ("a", "b"):
        await caller.sends(b"\r\n\r\n" + request(name))
        assert await caller.answer() == (503, name)
    await caller.sends(b"\r\n\r\n" + request("c", refused=False))
    assert await caller.answer() == (200, "c")


async def test_a_body_that_comes_later_is_no_request(caller: Caller) -> None:
    whole = request("a", body=b"12345")
    await caller.sends(whole)
    assert await caller.answer() == (503, "a")
    await caller.sends(whole[:-3])
    assert await caller.answer() == (503, "a")
    await caller.sends(whole[-3:], request("b", refused=False))
    assert await caller.answer() == (200, "b")


_KINDS = st.builds(
    request, st.sampled_from("ab"), refused=st.booleans(), body=st.sampled_from([b"", b"1", b"\r\n\r\n", b"GET "]), chunked=st.booleans()
)


# Where pieces end: after so many requests, or so many bytes before or behind that.
_CUTS = st.lists(st.tuples(st.integers(1, 8), st.sampled_from([0, 0, 0, 0, -1, 1, 7])), max_size=12)


@pytest.mark.parametrize("crowded", [False, True])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(_KINDS, min_size=2, max_size=8), cuts=_CUTS)
@example(requests=[request("a", body=b"1")] * 3 + [request("b", refused=False)], cuts=[(1, 0), (2, 0), (3, 0)])
async def test_each_request_has_its_own_answer_however_it_comes(
    url: str, guard: Guard, monkeypatch: pytest.MonkeyPatch, crowded: bool, requests: list[bytes], cuts: list[tuple[int, int]]
) -> None:
    """Only whoever is to be refused is; requests that wait for others go the ordinary way."""
    guard.is_crowded = crowded
    monkeypatch.setattr(door_module, "_GATHERED_S", 0.02)  # several pieces of a connection
    stream, ends = b"".join(requests), [0, *accumulate(map(len, requests))]
    edges = sorted({0, len(stream), *(min(ends[min(number, len(requests))] + off, len(stream)) for number, off in cuts)})
    caller = await connected(url)
    try:
        await caller.sends(*(stream[begin:end] for begin, end in pairwise(edges)))
        for asked in requests:
            status, name = await caller.answer()
            assert f"X-Id: {name}".encode() in asked
            assert status == 200 or b"X-Refuse" in asked
    finally:
        caller.close()


async def test_in_a_crowd_requests_are_looked_at_together(guard: Guard, caller: Caller, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "_GATHERED_S", 0.3)
    guard.is_crowded = True
    others = [await connected(url) for _ in range(3)]
    try:
        for number, each in enumerate([caller, *others]):
            await each.sends(request(str(number)))
        assert guard.asked == []
        assert [await each.answer() for each in (caller, *others)] == [(503, str(number)) for number in range(4)]
    finally:
        for each in others:
            each.close()


async def test_who_waits_in_a_crowd_may_leave_or_say_that_nothing_follows(
    guard: Guard, caller: Caller, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_GATHERED_S", 0.2)
    guard.is_crowded = True
    gone, last = await connected(url), await connected(url)
    await gone.sends(request("gone"))
    gone.close()
    await last.sends(request("last"))
    last._writer.write_eof()
    await caller.sends(request("a")[:20], request("a")[20:])
    assert await caller.answer() == (503, "a")
    assert await last.answer() == (503, "last")
    with pytest.raises(asyncio.IncompleteReadError):
        await last.answer()
    last.close()


async def test_the_fault_of_one_in_a_crowd_is_not_the_others(
    guard: Guard, caller: Caller, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = await connected(url)
    for each, name in ((caller, "a"), (faulty, "b")):
        await each.sends(request(name))
        assert await each.answer() == (503, name)
    monkeypatch.setattr(door_module, "_GATHERED_S", 0.2)
    guard.is_crowded = True
    guard.asked[1].remove((b"x-id", b"b"))  # the guard, asked again, finds no id
    await faulty.sends(request("b"))
    await caller.sends(request("a"))
    assert await caller.answer() == (503, "a")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await faulty.answer()
    faulty.close()


async def test_whoever_waits_in_a_crowd_is_answered_by_a_server_that_stops(
    guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_GATHERED_S", 60)
    app = FastAPI()
    app.state.door = Door(guard, lambda: True)
    app.state.drains, app.state.resources = (), None
    async with listening(app, load(tmp_path, ENV)) as base_url:
        held = await connected(base_url)
        await held.sends(request("a"))
        await asyncio.sleep(0.05)
    assert await held.answer() == (503, "a")
    held.close()


async def test_much_is_not_gathered(guard: Guard, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "_GATHERED_S", 60)
    monkeypatch.setattr(door_module, "_GATHERED_BYTES", 1000)
    guard.is_crowded = True
    await caller.sends(request("a", body=b"x" * 2000))
    assert await caller.answer() == (503, "a")


async def test_after_a_trailer_that_ends_the_connection_nothing_is_answered(caller: Caller) -> None:
    await caller.sends(request("a"))
    assert await caller.answer() == (503, "a")
    last = request("b", refused=False, body=b"1", chunked=True)
    await caller.sends(last[:-2] + b"Connection: close\r\n\r\n")
    assert await caller.answer() == (200, "b")
    await caller.sends(request("a"))
    with pytest.raises((asyncio.IncompleteReadError, TimeoutError)):
        async with asyncio.timeout(0.5):
            await caller.answer()


async def test_who_is_refused_again_is_hung_up_on_like_others(patience: None, url: str) -> None:
    caller = await connected(url)
    try:
        for _ in range(3):
            await asyncio.sleep(0.3)  # each begins the wait of half a second anew
            await caller.sends(request("a"))
            assert await caller.answer() == (503, "a")
        with pytest.raises(asyncio.IncompleteReadError):
            await caller.answer()
    finally:
        caller.close()


def learned(piece: bytes, *headers: tuple[bytes, bytes], door: Door | None = None) -> Door:
    held = door or Door(Guard())
    held.learn(piece, Head("GET", "/", list(headers), {}))
    return held


@pytest.mark.parametrize(
    ("piece", "headers", "known"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", [], True),
        (b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", [], False),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", [(b"content-length", b"2")], True),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", [(b"transfer-encoding", b"chunked")], False),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 4096 + b"\r\n\r\n", [], False),
    ],
)
async def test_what_is_known(piece: bytes, headers: Headers, known: bool) -> None:
    assert (learned(piece, *headers).known(piece) is not None) is known


async def test_it_is_known_for_a_while_only_and_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody asks again: heads have credentials in them."""
    monkeypatch.setattr(door_module, "_KEPT_S", 0.05)
    door = Door(Guard())
    pieces = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(1001)]
    for piece in pieces:
        learned(piece, door=door)
    assert [door.known(piece) is not None for piece in pieces[-2:]] == [True, False]
    await asyncio.sleep(0.2)
    assert not door._refused
    learned(pieces[-1], door=door)
    assert door.known(pieces[-1]) is not None
