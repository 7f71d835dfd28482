"""One connection to Redis that all of a process's scripts share: answers that come together are read together.

A pool would make a connection for each request under way, one after the other; a script is over in microseconds.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from hiredis import Reader, pack_command
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError

Argument = str | int | float
_OPENS_WITHIN_S = 1.0
_NO_MORE = object()


class RedisLine:
    """Answers come in the order of the questions. Whoever stops waiting leaves the others' answers where they are.

    `losses` counts the connections that are gone, whether or not somebody waited: behind the next one there may be older data, or none.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        # Whoever asks has a limit of their own; the connection itself may be silent for as long as nobody asks.
        # With RESP3 Redis may say what nobody asked.
        self._kind, self._options = pool.connection_class, {**pool.connection_kwargs, "socket_timeout": None, "protocol": 2}
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self.losses = 0

    async def run(self, *command: Argument) -> Any:
        """The answer to one command. Raises RedisError and OSError."""
        while self._connection is None:
            if self._opening is None:
                self._opening = asyncio.create_task(self._open(), name="redis line")
                self._opening.add_done_callback(_look)
            await asyncio.shield(self._opening)
        return await self._connection.ask(command)  # if nobody waits any more, it keeps its place

    def tell(self, *command: Argument) -> asyncio.Future[Any]:
        """Send a command, before whatever is asked next. Raises RedisError while no connection is open; the answer is for who wants it."""
        if self._connection is None:
            raise RedisConnectionError("no connection is open")
        return self._connection.ask(command)

    def hang_up(self) -> None:
        """Use another connection from here on, and tell those who wait that this one is lost."""
        if self._connection is not None:
            self.lost(self._connection, RedisConnectionError("the line was given up"))

    async def close(self) -> None:
        opening = self._opening
        self.hang_up()
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)

    def lost(self, connection: "_Connection", error: Exception) -> None:
        """This connection is gone."""
        if connection is self._connection:
            self._connection = None
            self.losses += 1
            connection.give_up(error)

    async def _open(self) -> None:
        made: AbstractConnection = self._kind(**self._options)
        try:
            async with asyncio.timeout(_OPENS_WITHIN_S):
                await made.connect()  # type: ignore[no-untyped-call]  # redis-py has no type here
            self._connection = _Connection(self, made)
        except BaseException:
            _drop(made)
            raise
        finally:
            self._opening = None


class _Connection(asyncio.Protocol):
    """A connection that redis-py has made; from there on its answers are read here, at once, without a task and a turn of the loop."""

    def __init__(self, line: RedisLine, made: AbstractConnection) -> None:
        assert made._writer is not None and made._reader is not None
        if made._writer.is_closing() or made._reader.at_eof():  # which nobody would tell us
            raise RedisConnectionError("Redis has closed the connection")
        self._line = line
        self._made = made  # it would be closed when nobody has it
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._answers = Reader(protocolError=InvalidResponse, replyError=_refusal, notEnoughData=_NO_MORE)
        self._transport = made._writer.transport
        self._transport.set_protocol(self)

    def ask(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        packed = _packed(command)  # what cannot be sent takes no place
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        try:
            self._transport.write(packed)
        except (RuntimeError, OSError) as error:  # closed, which we were not told yet
            self.connection_lost(error)
        return answer

    def give_up(self, error: Exception) -> None:
        """Tell those who wait."""
        _drop(self._made)
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(error)

    def data_received(self, data: bytes) -> None:
        self._answers.feed(data)
        try:
            while (answer := self._answers.gets()) is not _NO_MORE:
                waiting = self._waiting.popleft()
                if waiting.done():  # nobody waits for it any more
                    continue
                if isinstance(answer, RedisError):
                    waiting.set_exception(answer)
                else:
                    waiting.set_result(answer)
        except (InvalidResponse, IndexError) as error:  # no answer, or one that nobody asked for
            self.connection_lost(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._line.lost(self, RedisConnectionError(f"the connection is lost: {error or 'Redis has closed it'}"))


class Script:
    """Lua that Redis keeps by its hash, and is sent again when it has forgotten it."""

    def __init__(self, line: RedisLine, text: str) -> None:
        self._line = line
        self._text = text
        self._hash = sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        try:
            return await self._line.run("EVALSHA", self._hash, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self._line.run("EVAL", self._text, len(keys), *keys, *arguments)

    def tell(self, keys: Sequence[str], arguments: Sequence[Argument]) -> asyncio.Future[Any]:
        """As `RedisLine.tell`. It is not sent again where Redis has forgotten it: the answer is NoScriptError then."""
        return self._line.tell("EVALSHA", self._hash, len(keys), *keys, *arguments)


def _packed(command: tuple[Argument, ...]) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub says a tuple of one
    return packed


def _refusal(text: str) -> ResponseError:
    return NoScriptError(text) if text.startswith("NOSCRIPT ") else ResponseError(text)


def _look(opening: "asyncio.Task[None]") -> None:
    """A failure is told to those who wait for it; there may be none left."""
    if not opening.cancelled():
        opening.exception()


def _drop(connection: AbstractConnection) -> None:
    writer, connection._writer, connection._reader = connection._writer, None, None  # it complains of being forgotten with them
    if writer is not None:
        writer.transport.abort()
