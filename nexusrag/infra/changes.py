"""What processes tell each other through PostgreSQL NOTIFY, sent in the transaction that changes a row: drop it from your caches."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import structlog

from nexusrag.infra.database import UNREACHABLE, Database, Work

log = structlog.get_logger(__name__)
CHANNEL = "nexusrag_changes"
# What callers are cached by: one credential, one person (`<tenant>/<user>`), or all of a tenant's.
CREDENTIAL, PERSON, TENANT = "credential", "person", "tenant"


async def announce(work: Work, kind: str, *keys: str) -> None:
    """On commit, every process hears that each `kind` `key` changed."""
    await work.raw.execute("select pg_notify($1, $2::text || ' ' || key) from unnest($3::text[]) as key", CHANNEL, kind, keys)


class Changes:
    """One listening connection per process. While it is down, `live` is False and nothing may be cached."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._callbacks: dict[str, list[Callable[[str], None]]] = {}
        self._dropped: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self.live = False

    def on(self, kind: str, callback: Callable[[str], None], *, dropped: Callable[[], None]) -> None:
        """Call `callback(key)` for each change of `kind`; `dropped()` when changes may have been missed."""
        self._callbacks.setdefault(kind, []).append(callback)
        self._dropped.append(dropped)

    def tell(self, kind: str, key: str) -> None:
        """Here at once, without waiting for the database to bring it round."""
        for callback in self._callbacks.get(kind, ()):
            callback(key)

    def start(self) -> None:
        self._task = asyncio.create_task(self._listen(), name="changes")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        delay = 0.05
        while True:
            connection: asyncpg.Connection[Any] | None = None
            try:
                connection = await self._database.connect_raw()
                lost = asyncio.Event()
                connection.add_termination_listener(lambda *_, event=lost: event.set())
                await connection.add_listener(CHANNEL, self._heard)
                self._forget()
                self.live = True
                delay = 0.05
                while not lost.is_set():
                    # A silent network loss does not close the socket: ask now and then.
                    try:
                        async with asyncio.timeout(5):
                            await lost.wait()
                    except TimeoutError:
                        async with asyncio.timeout(2):
                            await connection.execute("select 1")
            except (TimeoutError, *UNREACHABLE) as error:
                log.warning("changes.lost", error=type(error).__name__)
            finally:
                self.live = False
                self._forget()
                if connection is not None and not connection.is_closed():
                    connection.terminate()
            await asyncio.sleep(delay)
            delay = min(delay * 2, 2)

    def _heard(self, _: object, __: int, ___: str, payload: object) -> None:
        kind, _, key = str(payload).partition(" ")
        self.tell(kind, key)

    def _forget(self) -> None:
        for dropped in self._dropped:
            dropped()
