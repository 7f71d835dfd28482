"""The connections of one process: a place for whoever may have one, and a stack of those that nobody has at present.

SQLAlchemy's pool costs more than a statement each time, since it switches to a greenlet and back (docs/decisions/0002).
"""

import asyncio
from bisect import insort
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any, TypeVar

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")
_PATIENCE_S = 10  # longest wait for a transaction to begin
_SPARE_S = 60.0  # how long connections beyond the size of the pool are kept
_OPEN_S = 0.02  # a transaction that only read is ended by the next user of its connection, and if none comes, after this


@dataclass(slots=True)
class Pooled:
    """One connection in both its forms: SQLAlchemy's, which is costly to enter, and the driver's beneath it.

    `since`: when it was put back. `is_open`: there is a transaction on it that only read and is over but for its end.
    """

    connection: AsyncConnection
    raw: "asyncpg.Connection[Any]"
    since: float = 0.0
    is_open: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the next user can have it."""
        return not (self.connection.invalidated or self.raw.is_closed()) and self.raw.is_in_transaction() is self.is_open

    async def discard(self) -> None:
        self.raw.terminate()  # whatever it is in the middle of, nobody waits for a server that may be gone
        await self.connection.invalidate()
        await self.connection.close()


class Pool:
    """`size` connections are kept, up to `overflow` more are made where they are needed at once."""

    def __init__(self, opened: Callable[[], Awaitable[Pooled]], size: int, overflow: int, away: tuple[type[BaseException], ...]) -> None:
        """`away`: what a server that is gone raises."""
        self._opened = opened
        self._away = away
        self._size = size
        self._places = asyncio.Semaphore(size + overflow)
        self._ending: asyncio.Task[None] | None = None
        self._least_wait_s = inf
        self.idle: list[Pooled] = []  # the last used is the last

    async def take_place(self) -> None:
        """Wait for the right to a connection. Raises TimeoutError after `_PATIENCE_S`."""
        if not self._places.locked():
            await self._places.acquire()  # does not wait
            self._least_wait_s = 0.0
            return
        began = monotonic()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._places.acquire()
        finally:
            self._least_wait_s = min(self._least_wait_s, monotonic() - began)

    def leave_place(self) -> None:
        self._places.release()

    def least_wait_s(self) -> float:
        """The shortest wait for a place since this was last asked, 0 if there was none: a delay that stands, and no burst."""
        waited, self._least_wait_s = self._least_wait_s, inf
        return waited if waited < inf else 0.0

    async def begin(self, script: str) -> Pooled:
        """A connection, for whoever has a place, on which `script` has begun a transaction.

        Raises what a server that is away raises, and TimeoutError after `_PATIENCE_S`: one that hangs answers nothing, and ends nothing.
        """

        async def begin(pooled: Pooled) -> None:
            await pooled.raw.execute(f"ROLLBACK; {script}" if pooled.is_open else script)
            pooled.is_open = False

        async with asyncio.timeout(_PATIENCE_S):
            pooled, _ = await self.first(begin)
        return pooled

    async def first(self, act: Callable[[Pooled], Awaitable[T]]) -> tuple[Pooled, T]:
        """A connection, for whoever has a place, with what `act` made of it; again on a new one, if the first turns out to be dead."""
        for last in (False, True):
            pooled = self.idle.pop() if self.idle else await self._opened()
            try:
                made = await act(pooled)
            except self._away:
                await pooled.discard()
                # One connection of a restarted server is dead, so all are: a new pool, and one more try.
                await self.dispose()
                if last:
                    raise
            except BaseException:
                await pooled.discard()
                raise
            else:
                return pooled, made
        raise AssertionError("unreachable")

    async def put_back(self, pooled: Pooled) -> None:
        """Give a connection back, and the place with it."""
        try:
            if not pooled.is_whole:
                await pooled.discard()
                return
            self.idle.append(pooled)
            pooled.since = monotonic()
            if pooled.is_open and self._ending is None:
                self._ending = asyncio.create_task(self._end_reads(), name="ends of reads")
            # To open one costs thirty times what using it again does: what a peak needed is kept for the next one.
            if len(self.idle) > self._size and pooled.since - self.idle[0].since > _SPARE_S:
                await self.idle.pop(0).discard()
        finally:
            self._places.release()

    async def dispose(self) -> None:
        """Drop the connections that nobody has."""
        while self.idle:
            await self.idle.pop().discard()

    async def close(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            with suppress(asyncio.CancelledError):
                await self._ending
        await self.dispose()

    async def _end_reads(self) -> None:
        """End what nobody has ended by using the connection again."""
        try:
            while any(pooled.is_open for pooled in self.idle):
                await asyncio.sleep(_OPEN_S)
                due = monotonic() - _OPEN_S
                for pooled in [pooled for pooled in self.idle if pooled.is_open and pooled.since <= due]:
                    if pooled in self.idle and not self._places.locked():
                        await self._end_read(pooled)
        finally:
            self._ending = None

    async def _end_read(self, pooled: Pooled) -> None:
        self.idle.remove(pooled)
        async with self._places:  # so that there is never a connection more than there are places; one is free, so this does not wait
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await pooled.raw.execute("ROLLBACK")
            except BaseException as error:
                await pooled.discard()
                if not isinstance(error, Exception):
                    raise
            else:
                pooled.is_open = False
                insort(self.idle, pooled, key=_since)


def _since(pooled: Pooled) -> float:
    return pooled.since
