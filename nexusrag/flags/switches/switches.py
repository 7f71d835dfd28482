"""The switches as one process holds them: read once per change while changes are being heard, else at most once a second."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any

import asyncpg
import structlog

from nexusrag.flags.switches import repository
from nexusrag.flags.switches.held import Forced, Held
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import UNREACHABLE, Database
from nexusrag.infra.jobs import JobHandler
from nexusrag.settings.rollouts import RolloutSettings

log = structlog.get_logger(__name__)
FLAGS, ALL = "flags", "*"
# While changes are not heard, or the database does not answer, it is asked no oftener.
_PAUSE_S = 1.0
# So long a request waits for the answer; after that it goes by what was known, and the answer counts for those that follow.
_PATIENCE_S = 0.25
_ANSWER_S = 5.0


class Switches:
    """What was read last is never forgotten: without a database it goes on to hold, and before the first answer the settings do."""

    def __init__(self, changes: Changes, database: Database, settings: RolloutSettings) -> None:
        self._changes = changes
        self._database = database
        self._settings = settings
        self._held = Held(settings)
        self._generation = 0
        self._read_at_generation: int | None = None
        self._asked_at = float("-inf")
        self._failed = False
        self._reading: asyncio.Task[None] | None = None
        changes.on(FLAGS, lambda _: self._changed(), dropped=self._changed)

    async def current(self) -> Held:
        """What holds now. Costs nothing but after a change; never fails."""
        if not self._fresh():
            await asyncio.wait({self._read_soon()}, timeout=_PATIENCE_S)
        return self._held

    async def kinds(self, handlers: Sequence[JobHandler]) -> list[str]:
        """The kinds of job that may be begun. What may not waits where it is."""
        held = await self.current()
        if held.frozen:
            return []
        return [handler.kind for handler in handlers if handler.switch is None or not held.is_on(handler.switch)]

    async def open(self) -> None:
        """The first reading."""
        await self._read()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    @property
    def _is_reading(self) -> bool:
        return self._reading is not None and not self._reading.done()

    def _fresh(self) -> bool:
        if self._changes.live and self._read_at_generation == self._generation:
            return True
        resting = monotonic() - self._asked_at < _PAUSE_S and not self._is_reading
        return resting and (self._failed or not self._changes.live)

    def _changed(self) -> None:
        # Read at once, so that no request waits for it.
        self._generation += 1
        if not self._failed or monotonic() - self._asked_at > _PAUSE_S:
            self._read_soon()

    def _read_soon(self) -> "asyncio.Task[None]":
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="switches")
        return self._reading

    async def _read(self) -> None:
        while True:
            generation = self._generation
            self._asked_at = monotonic()
            try:
                rows = await self._everything()
            except (*UNREACHABLE, asyncpg.PostgresError, TimeoutError) as error:
                self._failed = True
                log.warning("switches.not_read", error=type(error).__name__)
                return
            self._held = held_of(rows, self._settings, self._asked_at)
            self._failed = False
            self._read_at_generation = generation
            if generation == self._generation:  # else something changed meanwhile
                return

    async def _everything(self) -> list[dict[str, Any]]:
        # Not from the pool: a switch is thrown when there is too much to do, and must not wait in its queue.
        connection = await self._database.connect_raw()
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await repository.everything(connection)
        finally:
            connection.terminate()


def held_of(rows: Sequence[Any], settings: RolloutSettings, asked_at: float | None = None) -> Held:
    """Rows of `repository.everything`, asked for at this moment of the process's clock: a flag ends early rather than late."""
    asked_at = monotonic() if asked_at is None else asked_at
    return Held(
        settings,
        forced={(row["key"], row["scope"]): Forced(row["value"], asked_at + row["left_s"]) for row in rows if row["forced"]},
        stored={row["key"]: row["value"] for row in rows if not row["forced"]},
    )
