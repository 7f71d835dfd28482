"""The runs of this process: their leases, their readers, and what happens to those that nobody reads."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

import asyncpg
import structlog

from nexusrag.agents.runs import reaper, repository
from nexusrag.agents.runs.live import LiveRun
from nexusrag.infra.bulkheads import Bulkheads
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from nexusrag.infra.jobs import RENEW_S
from nexusrag.infra.metrics import RUNS_ACTIVE
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.principal import Principal
from nexusrag.settings import Settings

log = structlog.get_logger(__name__)
CANCEL = "run_cancel"
READERS_MAX = 16  # of one run in one process: it is one person's, who has no more windows. Each costs a connection, or polls.
_FINISH_S = 4.0  # what a stopping process gives its runs: half of the time that the server gives their connections
_END_S = 3.0  # longest wait for ends to be written
_ROLL_S, _ROLL_AGAIN_S = 3600.0, 10.0


class RunRegistry:
    """Finds a live run by its id, cancels what was abandoned, renews all leases at once."""

    def __init__(self, resources: Resources) -> None:
        settings = resources.get(Settings)
        self.process = new_id("process")
        self._resources = resources
        self._grace_s = settings.runs.run_disconnect_grace_s
        self._heartbeat_s = settings.runs.run_sse_heartbeat_s
        self._live: dict[str, LiveRun] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._loops: set[asyncio.Task[None]] = set()
        self._closed = False
        self._followers: Counter[tuple[str, str, str]] = Counter()
        self._finish_by: float | None = None
        resources.get(Bulkheads)["run"].make_room = self._make_room
        resources.get(Changes).on(CANCEL, self.cancel_asked, dropped=lambda: None)

    def start(self) -> None:
        for loop in (self._renew, self._beat, self._roll):
            self._keep(loop)

    def _keep(self, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Nothing ends a loop but `close`: the leases of all runs hang on one of them."""
        task = asyncio.create_task(loop(), name=loop.__name__)
        self._loops.add(task)

        def again(ended: asyncio.Task[None]) -> None:
            self._loops.discard(ended)
            if not self._closed and not ended.cancelled():
                error = ended.exception()
                log.error("runs.loop_failed", loop=loop.__name__, error=type(error).__name__, exc_info=error)
                self._keep(loop)

        task.add_done_callback(again)

    async def drain(self) -> None:
        """The process stops: runs have a few seconds to finish, then end with RUN_INTERRUPTED, and new ones at once."""
        if self._finish_by is None:
            self._finish_by = monotonic() + _FINISH_S
        await self._ended(self._finish_by - monotonic())
        for live in list(self._live.values()):
            self.stop(live, ErrorCode.RUN_INTERRUPTED)
        await self._ended(_END_S)

    async def close(self) -> None:
        await self.drain()
        self._closed = True
        loops = list(self._loops)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)

    def get(self, run_id: str) -> LiveRun | None:
        return self._live.get(run_id)

    def add(self, live: LiveRun, task: asyncio.Task[None]) -> None:
        """Keep the run until its task ends."""
        live.task = task
        self._live[live.run_id] = live
        RUNS_ACTIVE.set(len(self._live))
        task.add_done_callback(lambda ended: self._over(live, ended))
        if self._finish_by is not None:
            self.stop(live, ErrorCode.RUN_INTERRUPTED)

    def read_by(self, live: LiveRun) -> Callable[[], None]:
        """Count one more reader; the returned function says that it is gone, and a run without readers counts as abandoned.

        Raises SERVICE_BUSY beyond READERS_MAX.
        """
        _refuse_beyond_limit(live.readers)
        live.readers += 1
        live.abandoned_at = None
        timer = self._timers.pop(live.run_id, None)
        if timer is not None:
            timer.cancel()

        def gone() -> None:
            live.readers -= 1
            self._watch(live)

        return gone

    def follow(self, principal: Principal, run_id: str) -> Callable[[], None]:
        """Count one more reader of a journal, whatever stands in it; the returned function says that it is gone.

        Raises SERVICE_BUSY beyond READERS_MAX.
        """
        key = (principal.tenant_id, principal.subject_id, run_id)
        _refuse_beyond_limit(self._followers[key])
        self._followers[key] += 1

        def gone() -> None:
            self._followers[key] -= 1
            if not self._followers[key]:
                del self._followers[key]

        return gone

    def stop(self, live: LiveRun, code: ErrorCode) -> None:
        """End the run with this code; the model stops at once."""
        if live.task is not None and not live.done and not live.closing and live.cancel_code is None:
            live.cancel_code = code.value
            if live.next_seq > 1:  # a task cancelled before its first step would take none, and write no end: it looks by itself
                live.task.cancel()

    def cancel_asked(self, run_id: str) -> None:
        live = self._live.get(run_id)
        if live is not None:
            self.stop(live, ErrorCode.RUN_CANCELLED)

    def _watch(self, live: LiveRun) -> None:
        if live.readers == 0 and not live.done and live.run_id in self._live:
            live.abandoned_at = monotonic()
            loop = asyncio.get_running_loop()
            self._timers[live.run_id] = loop.call_later(self._grace_s, self.stop, live, ErrorCode.RUN_CANCELLED)

    def _make_room(self) -> bool:
        """Give up the run that was abandoned longest ago, so that a new one may take its place."""
        abandoned = [live for live in self._live.values() if live.abandoned_at is not None and live.slot is not None]
        if not abandoned:
            return False
        oldest = min(abandoned, key=lambda live: live.abandoned_at or 0)
        self.stop(oldest, ErrorCode.RUN_CANCELLED)
        self._free(oldest)
        return True

    def _over(self, live: LiveRun, ended: asyncio.Task[None]) -> None:
        if not ended.cancelled():
            ended.exception()  # told to the readers already
        self._live.pop(live.run_id, None)
        timer = self._timers.pop(live.run_id, None)
        if timer is not None:
            timer.cancel()
        self._free(live)
        live.leave()
        RUNS_ACTIVE.set(len(self._live))

    async def _ended(self, within_s: float) -> None:
        tasks = [live.task for live in self._live.values() if live.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=max(within_s, 0))

    def _free(self, live: LiveRun) -> None:
        if live.slot is not None:
            live.slot.release()
            live.slot = None

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            ids = list(self._live)
            if not ids:
                continue
            try:
                async with self._resources.get(Database).work(None) as work:
                    held = await repository.renew(work, ids, self.process)
            except (ApiError, asyncpg.PostgresError) as error:
                log.warning("runs.not_renewed", error=type(error).__name__)
                continue
            for run_id in ids:
                live = self._live.get(run_id)
                if live is None or live.done or live.closing:
                    continue
                if run_id not in held:
                    live.lose()
                elif held[run_id]:
                    self.stop(live, ErrorCode.RUN_CANCELLED)

    async def roll(self) -> bool:
        """Make the journal's tables of the next days, and drop those of days that are over. False: not now, try again."""
        try:
            await reaper.roll_partitions(self._resources)
        except (ApiError, asyncpg.PostgresError) as error:
            log.warning("runs.not_rolled", error=type(error).__name__)
            return False
        return True

    async def _roll(self) -> None:
        # Each process by itself: without tomorrow's journal there are no runs tomorrow, whether a worker lives or not.
        pause = _ROLL_AGAIN_S
        while True:
            await asyncio.sleep(pause)
            pause = _ROLL_S if await self.roll() else _ROLL_AGAIN_S

    async def _beat(self) -> None:
        pause = min(self._heartbeat_s / 4, 1.0)
        while True:
            await asyncio.sleep(pause)
            for live in self._live.values():
                quiet = monotonic() - live.last_event_at >= self._heartbeat_s
                if quiet and not (live.done or live.closing or live.lost):
                    live.heartbeat()


def _refuse_beyond_limit(readers: int) -> None:
    if readers >= READERS_MAX:
        raise ApiError(
            ErrorCode.SERVICE_BUSY, "Too many readers of this run; close one.", {"limit": READERS_MAX}, headers={"Retry-After": "1"}
        )
