"""A run in progress: its events so far, who reads them, and their way into the journal."""

import asyncio
from collections.abc import AsyncGenerator
from time import monotonic
from typing import Any

import asyncpg
import orjson
import structlog

from nexusrag.access.policies.facade import Caller
from nexusrag.agents.runs import repository
from nexusrag.infra.bulkheads import Slot
from nexusrag.infra.database import Database
from nexusrag.infra.redis import Redis
from nexusrag.infra.resources import Resources
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError
from nexusrag.web.sse import frame

log = structlog.get_logger(__name__)
FLUSH_AFTER_S = 0.25
FLUSH_AT_BYTES = 4096
# The longest number that an event id carries. A process keeps the frames of its runs in memory, so none ever counts this far: events
# that are numbered from here on stand behind whatever a process that went away may have shown.
MAX_SEQ = 999_999_999


class RunLost(Exception):
    """The run is another process's, or over; this one must not write to it."""


def render(run_id: str, request_id: str, session_id: str | None, seq: int, event: str, data: dict[str, Any]) -> str:
    """One event of a run as it goes over the wire and into the journal."""
    payload = {"type": event, "request_id": request_id, "session_id": session_id, "seq": seq, "data": data}
    return frame(event, f"{run_id}.{seq}", payload)


def delta_in(rendered: str) -> str:
    """What the model said in an event that `render` made; nothing in one of another kind."""
    head, _, data = rendered.partition("\ndata: ")
    if not head.endswith("\nevent: token.delta"):
        return ""
    said: str = orjson.loads(data)["data"]["delta"]
    return said


def channel(run_id: str) -> str:
    """Where readers in other processes hear that the journal has grown."""
    return f"nexusrag:run:{run_id}"


class LiveRun:
    """Events are numbered from 1 and kept until the run is over, so that any number of readers can follow at their own pace."""

    def __init__(self, resources: Resources, caller: Caller, *, run_id: str, session_id: str, request_id: str, slot: Slot | None) -> None:
        self.resources = resources
        self.caller = caller
        self.principal = caller.principal
        self.run_id = run_id
        self.session_id = session_id
        self.request_id = request_id
        self.epoch = 1
        self.slot = slot
        self.done = False  # readers have been shown its end
        self.lost = False  # its end is in the journal, or will be: this process has none to show
        self.closing = False  # its end is being written, and comes whatever is asked for now
        self.document_ids: list[str] | None = None
        self.readers = 0
        self.abandoned_at: float | None = None
        self.task: asyncio.Task[None] | None = None
        self.cancel_code: str | None = None
        self._frames: list[bytes] = []
        self._pending: list[tuple[int, str]] = []
        self._pending_bytes = 0
        self._documents_written = False
        self._grown = asyncio.Event()
        self._flusher: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._flush_lock = asyncio.Lock()
        self.journalled = False
        self.last_event_at = monotonic()

    def emit(self, event: str, data: dict[str, Any]) -> None:
        """Number an event, show it to readers and have it journalled soon."""
        text = self._render(len(self._frames) + 1, event, data)
        self._pending.append((len(self._frames) + 1, text))
        self._pending_bytes += len(text)
        self._show([text])
        if self._pending_bytes >= FLUSH_AT_BYTES:
            self._flush_soon(0)
        elif self._flusher is None:
            self._flush_soon(FLUSH_AFTER_S)

    def render(self, events: list[tuple[str, dict[str, Any]]]) -> list[str]:
        """The next events as they will read, before anybody sees them: for events that must be durable first."""
        start = len(self._frames) + 1
        return [self._render(start + place, event, data) for place, (event, data) in enumerate(events)]

    def show_written(self, texts: list[str], *, done: bool = False) -> None:
        """Show events that `render` made and that are in the journal."""
        self.done = self.done or done
        self._show(texts)

    @property
    def next_seq(self) -> int:
        return len(self._frames) + 1

    def put_back(self, pending: list[tuple[int, str]]) -> None:
        """What `take_pending` gave could not be written."""
        self._pending[:0] = pending

    def take_pending(self) -> list[tuple[int, str]]:
        """What is not in the journal yet; the caller writes it."""
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        return pending

    def heartbeat(self) -> None:
        """An ordinary event, so that a replay has it too."""
        seq = len(self._frames) + 1
        payload = {"ts": clock.iso(clock.now()), "request_id": self.request_id, "seq": seq}
        text = frame("heartbeat", f"{self.run_id}.{seq}", payload)
        self._pending.append((seq, text))
        self._show([text])
        if self._flusher is None:
            self._flush_soon(FLUSH_AFTER_S)

    async def flush(self) -> None:
        """Write what is pending. Raises RunLost when the run is no longer this process's."""
        async with self._flush_lock:
            pending = self.take_pending()
            documents = None if self._documents_written else self.document_ids
            if not pending:
                return
            try:
                async with self.resources.get(Database).work(None) as work:  # the statement enters the tenant itself
                    mine = await repository.append(work, self.principal.tenant_id, self.run_id, self.epoch, pending, documents)
            except BaseException:
                self._pending[:0] = pending  # not written: the next flush takes them along
                raise
            self._documents_written = self._documents_written or documents is not None
            if not mine:
                self.lost = True
                raise RunLost(self.run_id)
            self.journalled = True
            await self.resources.get(Redis).publish(channel(self.run_id))

    async def settle(self) -> None:
        """Wait until a flush under way is over."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)

    async def read(self, after: int, *, gather_s: float) -> AsyncGenerator[bytes, None]:
        """Frames after number `after`; events within `gather_s` seconds come in one piece."""
        place = after
        while True:
            if place < len(self._frames):
                piece = b"".join(self._frames[place:])
                place = len(self._frames)
                yield piece
                if not self.done and gather_s:
                    await asyncio.sleep(gather_s)
            elif self.done or self.lost:
                return
            else:
                self._grown.clear()
                await self._grown.wait()

    def leave(self) -> None:
        """Nothing more comes from this process: readers who have not seen the end find it in the journal."""
        self.lost = not self.done
        self._grown.set()

    def _render(self, seq: int, event: str, data: dict[str, Any]) -> str:
        return render(self.run_id, self.request_id, self.session_id, seq, event, data)

    def _show(self, texts: list[str]) -> None:
        self._frames.extend(text.encode() for text in texts)
        self.last_event_at = monotonic()
        self._grown.set()

    def _flush_soon(self, delay: float) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
        self._flusher = asyncio.get_running_loop().call_later(delay, self._start_flush)

    def _start_flush(self) -> None:
        self._flusher = None
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._try_flush())
        else:
            self._flush_soon(FLUSH_AFTER_S)

    async def _try_flush(self) -> None:
        try:
            await self.flush()
        except RunLost:
            if self.task is not None:
                self.task.cancel()
        except (ApiError, asyncpg.PostgresError) as error:  # pending still, for the next flush
            log.warning("journal.unwritten", run=self.run_id, error=type(error).__name__)
