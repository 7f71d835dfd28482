"""A run in progress: its events so far, who reads them, and which are not in the journal yet."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from time import monotonic
from typing import Any

import orjson

from nexusrag.access.policies.facade import Caller
from nexusrag.infra.bulkheads import Slot
from nexusrag.infra.resources import Resources
from nexusrag.kernel import clock
from nexusrag.web.sse import frame

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
    return _text_in(rendered, "token.delta", "delta")


def answer_in(rendered: str) -> str:
    """The same of the whole answer, which is an event of its own."""
    return _text_in(rendered, "message.final", "text")


def _text_in(rendered: str, event: str, field: str) -> str:
    head, _, data = rendered.partition("\ndata: ")
    if not head.endswith(f"\nevent: {event}"):
        return ""
    text: str = orjson.loads(data)["data"][field]
    return text


def channel(run_id: str) -> str:
    """Where readers in other processes hear that the journal has grown."""
    return f"nexusrag:run:{run_id}"


class LiveRun:
    """Events are numbered from 1 and kept until the run is over, so that any number of readers can follow at their own pace.

    `on_pending` is called with the run whenever it has one more that is not in the journal.
    """

    def __init__(
        self,
        resources: Resources,
        caller: Caller,
        *,
        run_id: str,
        session_id: str,
        request_id: str,
        slot: Slot | None,
        on_pending: Callable[["LiveRun"], None],
    ) -> None:
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
        self.journalled = False  # some of it is in the journal
        self.documents_written = False
        self.pending_bytes = 0
        self._frames: list[bytes] = []
        self._pending: list[tuple[int, str]] = []
        self._on_pending = on_pending
        self._grown = asyncio.Event()
        self.last_event_at = monotonic()

    def emit(self, event: str, data: dict[str, Any]) -> None:
        """Number an event, show it to readers and have it journalled soon."""
        self._tell(self._render(self.next_seq, event, data))

    def render(self, events: list[tuple[str, dict[str, Any]]]) -> list[str]:
        """The next events as they will read, before anybody sees them: for events that must be durable first."""
        start = self.next_seq
        return [self._render(start + place, event, data) for place, (event, data) in enumerate(events)]

    def show_written(self, texts: list[str], *, done: bool = False) -> None:
        """Show events that `render` made and that are in the journal."""
        self.done = self.done or done
        self._show([text.encode() for text in texts])

    @property
    def next_seq(self) -> int:
        return len(self._frames) + 1

    def take_pending(self) -> list[tuple[int, str]]:
        """What is not in the journal yet; the caller writes it."""
        pending, self._pending, self.pending_bytes = self._pending, [], 0
        return pending

    def put_back(self, pending: list[tuple[int, str]]) -> None:
        """What `take_pending` gave could not be written."""
        self._pending[:0] = pending
        self.pending_bytes += sum(len(text.encode()) for _, text in pending)

    def heartbeat(self) -> None:
        """An ordinary event, so that a replay has it too."""
        payload = {"ts": clock.iso(clock.now()), "request_id": self.request_id, "seq": self.next_seq}
        self._tell(frame("heartbeat", f"{self.run_id}.{self.next_seq}", payload))

    def lose(self) -> None:
        """The run is another process's, or over: this one stops, and has no end to show."""
        self.lost = True
        if self.task is not None:
            self.task.cancel()

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

    def _tell(self, text: str) -> None:
        shown = text.encode()
        self._pending.append((self.next_seq, text))
        self.pending_bytes += len(shown)
        self._show([shown])
        self._on_pending(self)

    def _show(self, frames: list[bytes]) -> None:
        self._frames.extend(frames)
        self.last_event_at = monotonic()
        self._grown.set()
