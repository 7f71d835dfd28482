"""One connection to Redis that all of a process's scripts share: answers that come together are read together.

A pool would make a connection for each request under way, one after the other; a script is over in microseconds.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

Argument = str | int | float
_OPENS_WITHIN_S = 1.0
_SOME_TIME_S = 0.002


class RedisLine:
    """Answers come in the order of the questions. Whoever stops waiting leaves the others' answers where they are.

    `losses` counts the connections that are gone, whether or not somebody waited: behind the next one there may be older data, or none.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        # Whoever asks has a limit of their own; the connection itself may be silent for as long as nobody asks.
        self._kind, self._options = pool.connection_class, {**pool.connection_kwargs, "socket_timeout": None}
        self._connection: AbstractConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self.losses = 0

    async def run(self, *command: Argument, soon: bool = True) -> Any:
        """The answer to one command. Raises RedisError and OSError.

        What need not be there soon goes out with the next that must, or in two milliseconds: each piece that is sent wakes Redis up.
        """
        while self._connection is None:
            if self._opening is None:
                self._opening = asyncio.create_task(self._open(), name="redis line")
                self._opening.add_done_callback(_look)
            await asyncio.shield(self._opening)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if not soon and not self._unsent:
            loop.call_later(_SOME_TIME_S, self._send)
        self._unsent.append(_packed(command))
        self._waiting.append(answer)
        if soon:
            self._send()
        return await answer  # if nobody waits any more, it keeps its place

    def hang_up(self) -> None:
        """Use another connection from here on, and tell those who wait that this one is lost."""
        if self._reading is not None:
            self._reading.cancel()
        self._lost(self._connection, RedisConnectionError("the line was given up"))

    async def close(self) -> None:
        tasks = [task for task in (self._opening, self._reading) if task is not None]
        self.hang_up()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._connection is not None and unsent:
            assert self._connection._writer is not None
            try:
                self._connection._writer.writelines(unsent)
            except (RuntimeError, OSError):  # closed, which whoever reads has not been told yet
                self.hang_up()

    async def _open(self) -> None:
        connection: AbstractConnection = self._kind(**self._options)
        try:
            async with asyncio.timeout(_OPENS_WITHIN_S):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has no type here
        except BaseException:
            _drop(connection)
            raise
        finally:
            self._opening = None
        self._connection = connection
        self._reading = asyncio.create_task(self._read(connection), name="redis line")

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            try:
                answer, error = await connection.read_response(), None
            except ResponseError as refused:
                answer, error = None, refused
            except (RedisError, OSError) as lost:
                self._lost(connection, lost)
                return
            waiting = self._waiting.popleft()
            if waiting.done():  # nobody waits for it any more
                continue
            if error is None:
                waiting.set_result(answer)
            else:
                waiting.set_exception(error)

    def _lost(self, connection: AbstractConnection | None, error: Exception) -> None:
        if connection is None or connection is not self._connection:
            return
        self._connection = self._reading = None
        self.losses += 1
        _drop(connection)
        waiting, self._waiting = self._waiting, deque()
        self._unsent = []
        for answer in waiting:
            if not answer.done():
                answer.set_exception(error)


class Script:
    """Lua that Redis keeps by its hash, and is sent again when it has forgotten it."""

    def __init__(self, line: RedisLine, text: str) -> None:
        self._line = line
        self._text = text
        self._hash = sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], arguments: Sequence[Argument], *, soon: bool = True) -> Any:
        try:
            return await self._line.run("EVALSHA", self._hash, len(keys), *keys, *arguments, soon=soon)
        except NoScriptError:
            return await self._line.run("EVAL", self._text, len(keys), *keys, *arguments)


def _packed(command: tuple[Argument, ...]) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub says a tuple of one
    return packed


def _look(opening: "asyncio.Task[None]") -> None:
    """A failure is told to those who wait for it; there may be none left."""
    if not opening.cancelled():
        opening.exception()


def _drop(connection: AbstractConnection) -> None:
    writer = connection._writer
    if writer is not None:
        writer.transport.abort()
