"""Where a process can die: each statement, COMMIT, command to Redis, file, call of a provider and piece of an answer, before and after.

Installed in a process of the harness alone; the product knows nothing of it. What a request (or job) passes is numbered from 1, and the
process kills itself at the number it was given. What runs beside it, such as crons, counts nothing.
"""

import asyncio
import functools
import os
import re
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any

import aiohttp
import asyncpg.connect_utils
import redis.asyncio.connection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nexusrag.agents.runs.journal import Journal
from nexusrag.agents.runs.live import LiveRun
from nexusrag.infra import runner
from nexusrag.knowledge.parsing.sandbox import Sandbox
from nexusrag.providers.embeddings.fake import FakeEmbedder
from nexusrag.providers.llm.openai import OpenAIModel

HEADER = b"x-chaos"  # the request that counts
_watched: ContextVar[bool] = ContextVar("watched", default=False)
_TABLE = re.compile(r"\b(insert into|update|delete from|from)\s+([a-z_]+)", re.IGNORECASE)


class Points:
    """Counts the points that are passed; `tell` hears of the fatal one first, or of all when there is none."""

    def __init__(self, fatal: int | None, tell: Callable[..., None]) -> None:
        self._fatal = fatal
        self._tell = tell
        self._passed = 0
        self.begun = False

    def watch(self) -> None:
        """What the present task does from here on counts."""
        _watched.set(True)
        self.begun = True

    @property
    def watching(self) -> bool:
        return _watched.get()

    def at(self, name: str, *, anywhere: bool = False) -> None:
        """`anywhere`: in threads too, which do not know what they work for."""
        if not (self.begun if anywhere else self.watching):
            return
        self._passed += 1
        if self._fatal is None:
            self._tell("passed", name=name)
        elif self._passed == self._fatal:
            self._tell("dying", name=name)
            os.kill(os.getpid(), signal.SIGKILL)

    async def around(self, name: str, call: Awaitable[Any]) -> Any:
        """Before it, once it is on its way, and after it."""
        if not self.watching:
            return await call
        self.at(f"before {name}")
        task = asyncio.ensure_future(call)
        try:
            # The first step hands the bytes over; uvloop writes them out at the end of a turn.
            for _ in range(3):
                if not task.done():
                    await asyncio.sleep(0)
            self.at(f"during {name}")
            result = await task
        except BaseException:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        self.at(f"after {name}")
        return result


def install(points: Points) -> None:
    """From now on everything that this process does for a watched request or job passes `points`."""
    _statements(points)
    _redis(points)
    _files(points)
    _providers(points)
    _jobs(points)
    _journal(points)


class Watched:
    """The outermost layer of the application: says which request counts, and sees each piece of its answer."""

    def __init__(self, app: ASGIApp, points: Points) -> None:
        self._app = app
        self._points = points

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not any(name == HEADER for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            name = message["type"].removeprefix("http.response.")
            self._points.at(f"before answer {name}")
            await send(message)
            await asyncio.sleep(0)
            self._points.at(f"after answer {name}")

        self._points.watch()
        self._points.at("request")
        await self._app(scope, receive, sending)


def _statements(points: Points) -> None:
    """What asyncpg sends: in the simple protocol, and in the extended one."""

    class Protocol(asyncpg.protocol.Protocol):
        async def query(self, query: Any, timeout: Any) -> Any:
            return await points.around(_named(query), super().query(query, timeout))

        async def bind_execute(self, state: Any, *args: Any, **options: Any) -> Any:
            return await points.around(_named(state.query), super().bind_execute(state, *args, **options))

        async def bind_execute_many(self, state: Any, *args: Any, **options: Any) -> Any:
            return await points.around(_named(state.query), super().bind_execute_many(state, *args, **options))

    asyncpg.connect_utils.protocol.Protocol = Protocol  # type: ignore[attr-defined]  # as it imports it


def _named(statement: str) -> str:
    if "RESET ALL; BEGIN" in statement:
        return "BEGIN"
    if statement in ("COMMIT", "ROLLBACK"):
        return statement
    words = statement.split()
    found = _TABLE.search(statement)
    return f"sql {words[0].lower()} {found.group(2).lower()}" if found else f"sql {' '.join(words)[:40]}"


def _redis(points: Points) -> None:
    connection = redis.asyncio.connection.AbstractConnection
    send, read = connection.send_packed_command, connection.read_response

    @functools.wraps(send)
    async def sending(self: Any, command: Any, *args: Any, **options: Any) -> None:
        points.at("before redis command")
        # Not `around`: several share a connection, and count on a command being written at once.
        await send(self, command, *args, **options)
        if points.watching:
            await asyncio.sleep(0)
        points.at("after redis command")

    @functools.wraps(read)
    async def reading(self: Any, *args: Any, **options: Any) -> Any:
        answer = await read(self, *args, **options)
        points.at("after redis answer")
        return answer

    connection.send_packed_command = sending  # type: ignore[method-assign]
    connection.read_response = reading  # type: ignore[method-assign]


def _files(points: Points) -> None:
    for name in ("replace", "unlink", "fsync"):
        setattr(os, name, _passing(points, f"file {name}", getattr(os, name)))


def _passing(points: Points, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def passing(*args: Any, **options: Any) -> Any:
        points.at(f"before {name}", anywhere=True)
        result = function(*args, **options)
        points.at(f"after {name}", anywhere=True)
        return result

    return passing


def _providers(points: Points) -> None:
    for owner, method, name in (
        (Sandbox, "run", "parsing"),
        (FakeEmbedder, "embed", "embedding"),
        (aiohttp.ClientSession, "_request", "call of a provider"),
    ):
        setattr(owner, method, _around(points, name, getattr(owner, method)))
    stream = OpenAIModel.stream

    async def streaming(self: OpenAIModel, prompt: Any) -> AsyncGenerator[Any, None]:
        points.at("before the first token")
        said = stream(self, prompt)
        try:
            async for piece in said:
                points.at("token")
                yield piece
        finally:
            await said.aclose()
        points.at("after the last token")

    OpenAIModel.stream = streaming  # type: ignore[method-assign]


def _around(points: Points, name: str, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    async def around(*args: Any, **options: Any) -> Any:
        points.at(f"before {name}")
        result = await function(*args, **options)
        points.at(f"after {name}")
        return result

    return around


def _jobs(points: Points) -> None:
    execute = runner.execute  # type: ignore[attr-defined]  # as it imports it

    async def executing(job: Any, handler: Any) -> None:
        points.watch()
        points.at("job claimed")
        await execute(job, handler)
        points.at("job over")

    runner.execute = executing  # type: ignore[attr-defined]


def _journal(points: Points) -> None:
    """Writes for a run what it has said, beside it."""
    write = Journal._write

    async def writing(self: Journal, batch: Sequence[LiveRun]) -> bool:
        if points.begun:
            points.watch()
        return await write(self, batch)

    Journal._write = writing  # type: ignore[method-assign]
