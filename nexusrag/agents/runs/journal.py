"""The one writer of a process's journals: what its runs have pending is written together, for a transaction costs more than its events."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from operator import attrgetter

import asyncpg
import structlog

from nexusrag.agents.runs import repository
from nexusrag.agents.runs.live import LiveRun, channel
from nexusrag.infra.database import Database
from nexusrag.infra.redis import Redis
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError

log = structlog.get_logger(__name__)
FLUSH_AFTER_S = 0.25  # what is pending waits no longer
FLUSH_AT_BYTES = 4096  # of one run: it does not wait as long
GATHER_S = 0.1  # but this long: what comes together goes together, and a run that is over by then has written all with its end
# The driver sends up to 128 KiB at once. Between the pieces of more than that it cannot be cancelled: it would wait for ever.
_BATCH_RUNS, _BATCH_BYTES = 32, 65536
# A row that somebody holds for long keeps its own run from being written, and nobody else's lease from being renewed.
_PATIENCE = {"lock_timeout": "1000"}
_TICK_S = 0.001  # of the loop's clock


class Journal:
    """Writes what runs have pending in transactions of many runs, one after the other. What cannot be written stays pending."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._due: dict[LiveRun, float] = {}  # when, by the loop's clock, what a run has pending is to be written
        self._next = inf  # the earliest of these that is waited for
        self._sooner = asyncio.Event()
        self._alone: set[LiveRun] = set()  # whose events could not be written
        self._writing: frozenset[LiveRun] = frozenset()  # whose events the transaction under way has in hand
        self._over = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.create_task(self._flush_when_due(), name="journal")
        self._loop.add_done_callback(self._ended)

    def _ended(self, loop: "asyncio.Task[None]") -> None:
        """Nothing ends the one writer that there is but `close`: after a fault that nobody foresaw another takes its place."""
        if not loop.cancelled() and (error := loop.exception()) is not None:
            log.error("journal.failed", error=type(error).__name__, exc_info=error)
            self.start()

    async def close(self) -> None:
        while self._loop is not None and not self._loop.done():
            self._loop.cancel()  # again, should whatever it was in have kept it for itself
            await asyncio.wait([self._loop], timeout=1)

    def note(self, live: LiveRun) -> None:
        """The run has something pending."""
        wait_s = GATHER_S if live.pending_bytes >= FLUSH_AT_BYTES else FLUSH_AFTER_S
        due = asyncio.get_running_loop().time() + wait_s
        if due < self._due.get(live, inf):
            self._due[live] = due
            if due < self._next:
                self._sooner.set()

    async def take(self, live: LiveRun) -> list[tuple[int, str]]:
        """What the run has pending, which the caller writes: a flush that has some of it in hand is over by then."""
        while live in self._writing:
            await self._over.wait()
        self._due.pop(live, None)
        return live.take_pending()

    async def _flush_when_due(self) -> None:
        while True:
            await self._until_due()
            try:
                if await self._flush():
                    continue
            except ApiError as error:  # the database is away: all the rest is pending still
                log.warning("journal.unwritten", error=error.code.value)
            await asyncio.sleep(FLUSH_AFTER_S)

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        while (due := min(self._due.values(), default=inf)) > loop.time():
            self._next = due
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due + _TICK_S if due < inf else None):
                    await self._sooner.wait()

    async def _flush(self) -> bool:
        """Write what is pending now; what comes meanwhile goes with the next flush. False: not all of it could be written."""
        # Whoever waits for the row of one run while it holds another's takes them in the order of their ids: these transactions here, of
        # all processes. All others lock one row (an end, a cancel), or skip what is locked (renewals, the reaper): no circle of waits.
        pending = sorted(self._due, key=attrgetter("run_id"))
        alone = set(self._alone)
        for batch in _batches(live for live in pending if live not in alone):
            if not await self._write(batch):
                alone.update(batch)  # it may be one of them that cannot be written
        self._alone = {live for live in pending if live in alone and not await self._write([live])}
        return not self._alone

    async def _write(self, batch: Sequence[LiveRun]) -> bool:
        """One transaction with what these runs have pending. Raises SERVICE_UNAVAILABLE when the database is away."""
        taken = [(live, part) for live in batch if (part := self._part(live)).events]
        if not taken:
            return True
        self._writing, written = frozenset(live for live, _ in taken), False
        self._over.clear()
        try:
            # Each statement enters its tenant itself.
            async with self._resources.get(Database).work(None, options=_PATIENCE) as work:
                mine = await repository.append(work, [part for _, part in taken])
            written = True
        except asyncpg.PostgresError as error:
            log.warning("journal.unwritten", runs=[live.run_id for live, _ in taken], error=type(error).__name__)
            return False
        finally:
            if not written:
                for live, part in taken:
                    live.put_back(part.events)
                    self.note(live)
            self._writing = frozenset()
            self._over.set()
        for (live, part), is_mine in zip(taken, mine, strict=True):
            if is_mine:
                live.journalled = True
                live.documents_written = live.documents_written or part.document_ids is not None
            else:
                live.lose()
        await self._resources.get(Redis).publish(*[channel(live.run_id) for live, _ in taken if not live.lost])
        return True

    def _part(self, live: LiveRun) -> repository.Part:
        self._due.pop(live, None)
        documents = None if live.documents_written else live.document_ids
        return repository.Part(live.principal.tenant_id, live.run_id, live.epoch, live.take_pending(), documents)


def _batches(runs: Iterable[LiveRun]) -> Iterator[list[LiveRun]]:
    batch: list[LiveRun] = []
    size = 0
    for live in runs:
        if batch and (len(batch) == _BATCH_RUNS or size + live.pending_bytes > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(live)
        size += live.pending_bytes
    if batch:
        yield batch
