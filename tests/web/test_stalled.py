"""Readers that take nothing, or next to nothing, of an answer: it is not kept for them, however they go about it."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from nexusrag.infra.loop import new_loop
from nexusrag.settings import load
from nexusrag.web import server
from nexusrag.web.door import Door
from nexusrag.web.sse import TRANSPORT_KEY, EventStream
from tests.support.installation import ENV, http, listening
from tests.support.processes import until

STALL_S = 0.5
LARGE = 16 * 1024 * 1024  # more than all buffers between us hold


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of large answers whose readers may stall for half a second, on the loop of production: they differ in how one ends."""
    begun: Future[tuple[asyncio.AbstractEventLoop, str]] = Future()
    over = asyncio.Event()

    async def serve() -> None:
        async with listening(large_answers(), load(tmp_path, ENV)) as base_url:
            begun.set_result((asyncio.get_running_loop(), base_url))
            await over.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve())

    monkeypatch.setattr(server, "_STALL_S", STALL_S)
    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(run)
        loop, base_url = begun.result(20)
        yield base_url
        loop.call_soon_threadsafe(over.set)
        served.result()


def large_answers() -> FastAPI:
    app = FastAPI()
    app.state.door = Door(lambda method, path, headers, seen: None)
    app.state.drains, app.state.resources = (), None
    left = asyncio.Event()

    @app.get("/large")
    async def large() -> Response:
        return Response(b"x" * LARGE)

    @app.get("/small")
    async def small() -> Response:
        return Response(b"x" * 60_000)

    @app.get("/pieces")
    async def pieces() -> Response:
        async def made() -> AsyncGenerator[bytes, None]:
            for _ in range(LARGE // 50_000):
                yield b"x" * 50_000

        return StreamingResponse(made())

    @app.get("/full")
    async def full(request: Request) -> Response:
        """As much as goes out, and a little that does not: too little for the server to be told of it."""

        async def made() -> AsyncGenerator[bytes, None]:
            transport = request.scope[TRANSPORT_KEY]._transport
            while not transport.get_write_buffer_size():
                yield b"x" * 10_000
                await asyncio.sleep(0)

        return StreamingResponse(made())

    @app.get("/stream")
    async def stream() -> Response:
        async def made() -> AsyncGenerator[bytes, None]:
            for _ in range(LARGE // 50_000):
                yield b"x" * 50_000
            yield b"the end"

        return EventStream(made(), stall_s=30, closed=lambda: None)

    @app.get("/endless")
    async def endless() -> Response:
        async def made() -> AsyncGenerator[bytes, None]:
            yield b"the beginning"
            await asyncio.Event().wait()

        return EventStream(made(), stall_s=30, closed=left.set)

    @app.get("/left")
    async def gone() -> bool:
        """Whether the stream without an end has lost its reader."""
        async with asyncio.timeout(10):
            return await left.wait()

    return app


async def asked(url: str, path: str, headers: str = "", times: int = 1, *, buffer: int | None = 4096) -> socket.socket:
    """A connection that takes little at once, over which this was asked."""
    connection = socket.socket()
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (urlsplit(url).hostname, urlsplit(url).port))
    await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() * times)
    return connection


async def arriving(connection: socket.socket) -> None:
    """Wait until something of the answer is there, and take nothing of it."""

    async def there() -> bool:
        try:
            return len(connection.recv(1, socket.MSG_PEEK)) == 1
        except BlockingIOError:
            return False

    await until(there)


def is_held(connection: socket.socket) -> bool:
    """Whether the server, which is this process, has not let go of it."""
    ours = connection.getsockname()[1]
    return any(end.raddr and end.raddr.port == ours for end in psutil.Process().net_connections("tcp"))


async def cut_off(connection: socket.socket) -> None:
    async def gone() -> bool:
        return not is_held(connection)

    await until(gone, 15, 0.1)


@pytest.mark.parametrize(
    ("path", "headers", "times"),
    [
        pytest.param("/large", "", 1, id="one"),
        pytest.param("/large", "Connection: close\r\n", 1, id="closed"),
        pytest.param("/large", "", 3, id="pipelined"),
        pytest.param("/pieces", "", 1, id="in pieces"),
        pytest.param("/small", "", LARGE // 60_000, id="many small ones"),
    ],
)
async def test_whoever_takes_nothing_is_cut_off(url: str, path: str, headers: str, times: int) -> None:
    connection = await asked(url, path, headers, times)
    try:
        await cut_off(connection)
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/large", "/full"])
async def test_whoever_takes_nothing_and_says_that_nothing_more_will_come_is_cut_off(url: str, path: str) -> None:
    connection = await asked(url, path)
    try:
        await arriving(connection)
        connection.shutdown(socket.SHUT_WR)
        await cut_off(connection)
    finally:
        connection.close()


async def test_whoever_takes_nothing_of_the_rest_is_cut_off_once_no_more_is_asked(patience: None, url: str) -> None:
    connection = await asked(url, "/full")
    try:
        await cut_off(connection)
    finally:
        connection.close()


@pytest.mark.parametrize("headers", ["", "Connection: close\r\n"])
async def test_whoever_takes_next_to_nothing_is_cut_off(url: str, headers: str) -> None:
    connection = await asked(url, "/large", headers)

    async def nibble() -> None:
        while True:
            await asyncio.get_running_loop().sock_recv(connection, 1_024)
            await asyncio.sleep(STALL_S / 10)

    nibbling = asyncio.create_task(nibble())
    try:
        await cut_off(connection)
    finally:
        nibbling.cancel()
        await asyncio.gather(nibbling, return_exceptions=True)
        connection.close()


@pytest.mark.slow
async def test_whoever_takes_little_but_enough_is_not_cut_off(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is less than the system asks of us at once: what it has sent counts as well."""
    monkeypatch.setattr(server, "_STALL_S", 4.0)
    connection = await asked(url, "/large", buffer=None)
    try:
        for _ in range(180):
            await asyncio.get_running_loop().sock_recv(connection, 8_192)
            await asyncio.sleep(0.05)
        assert is_held(connection)
    finally:
        connection.close()


@pytest.mark.slow
async def test_a_stream_has_a_limit_of_its_own(url: str) -> None:
    connection = await asked(url, "/stream")
    received = b""
    try:
        await asyncio.sleep(STALL_S * 4)  # the time itself is what is tested
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        async with asyncio.timeout(20):
            while b"the end" not in received:
                piece = await asyncio.get_running_loop().sock_recv(connection, 1 << 20)
                assert piece, "cut off"
                received = received[-10:] + piece
    finally:
        connection.close()


async def test_whoever_leaves_a_stream_and_had_asked_for_more_has_left_it(url: str) -> None:
    connection = await asked(url, "/endless", times=2)
    await arriving(connection)
    connection.close()
    async with http(url) as client:
        assert (await client.get("/left")).json() is True


async def test_whoever_says_that_nothing_more_will_come_has_left(url: str) -> None:
    connection = await asked(url, "/endless")
    try:
        await arriving(connection)
        connection.shutdown(socket.SHUT_WR)
        await cut_off(connection)
        async with http(url) as client:
            assert (await client.get("/left")).json() is True
    finally:
        connection.close()
