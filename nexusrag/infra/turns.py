"""Turns of a process's requests: while several tenants ask, whoever spends its burst lets those go first who keep to their rate.

A burst is everybody's right, but the others wait for what the process does for it. So requests of a tenant that is ahead of its rate, in
their class, begin one after the other, and begin and go on while nothing is under way of another tenant that keeps to its. None is refused
for that: each waits for a tenth of a second in all, or before it begins for a second while the process is late, when it could only share
it with the others. A tenant that asks alone waits for nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from time import monotonic

from nexusrag.infra.metrics import TURN_WAIT

TURN_KEY = "nexusrag.turn"
_ASKS_S = 1.0  # who asked within that time counts as one who asks
_PATIENCE_S, _LATE_PATIENCE_S = 0.1, 1.0


class Turns:
    """Those of one process. `is_late`: at this moment it has more to do than it can."""

    def __init__(self, is_late: Callable[[], bool]) -> None:
        self._is_late = is_late
        self._ahead = 0  # requests under way that let others go first
        self._orderly: Counter[str] = Counter()  # all others, by tenant
        self._beginning: list[Turn] = []  # who wait for their turn, in the order of coming
        self._paused: list[Turn] = []
        self._last = self._before = ("", float("-inf"))  # the last two tenants that asked, and when

    @property
    def waiting(self) -> int:
        """Requests that have not begun."""
        return len(self._beginning)

    async def begin(self, turn: "Turn", tenant_id: str, ahead: int) -> None:
        """Return when it is the request's turn. `ahead`: how far its tenant is ahead of its rate, 0: not at all."""
        turn.tenant_id, turn.ahead = tenant_id, ahead
        if self._others_ask(tenant_id) and ahead and not self._may_begin(turn):
            await self._wait(turn, self._beginning, _LATE_PATIENCE_S)
        if not turn.is_under_way:
            self._enter(turn)

    async def pause(self, turn: "Turn") -> None:
        """Let others go first once more, in the middle of what one does. Not for long: one may hold a place that others need."""
        if turn.ahead and not self._is_quiet(turn):
            await self._wait(turn, self._paused, _PATIENCE_S)

    def leave(self, turn: "Turn") -> None:
        """The request is no burden any more, or waits for somebody else. Again has no effect."""
        if not turn.is_under_way:
            return
        turn.is_under_way = False
        if turn.ahead:
            self._ahead -= 1
        else:
            self._orderly[turn.tenant_id] -= 1
            if not self._orderly[turn.tenant_id]:
                del self._orderly[turn.tenant_id]
        for paused in [one for one in self._paused if self._is_quiet(one)]:
            self._paused.remove(paused)
            paused.called.set_result(None)
        if self._beginning and not self._ahead:
            # Who is least ahead comes first: a flood is always there, and would have nearly all turns.
            first = min(filter(self._may_begin, self._beginning), key=attrgetter("ahead"), default=None)
            if first is not None:
                self._beginning.remove(first)
                self._enter(first)
                first.called.set_result(None)

    def _enter(self, turn: "Turn") -> None:
        turn.is_under_way = True
        if turn.ahead:
            self._ahead += 1
        else:
            self._orderly[turn.tenant_id] += 1

    def _may_begin(self, turn: "Turn") -> bool:
        return not self._ahead and self._is_quiet(turn)

    def _is_quiet(self, turn: "Turn") -> bool:
        """Whether nothing is under way of another tenant that keeps to its rate."""
        return len(self._orderly) == (turn.tenant_id in self._orderly)

    def _others_ask(self, tenant_id: str) -> bool:
        now = monotonic()
        if self._last[0] != tenant_id:
            self._before = self._last
        self._last = tenant_id, now
        return self._before[1] > now - _ASKS_S

    async def _wait(self, turn: "Turn", queue: "list[Turn]", late_patience_s: float) -> None:
        """Until it is called, or has no more patience."""
        turn.called = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            while not turn.called.done():
                left = (late_patience_s if self._is_late() else _PATIENCE_S) - turn.waited_s
                if left <= 0:
                    break
                began = monotonic()
                await asyncio.wait((turn.called,), timeout=min(left, _PATIENCE_S))
                turn.waited_s += (waited := monotonic() - began)
                TURN_WAIT.inc(waited)
        finally:
            if turn in queue:
                queue.remove(turn)


@dataclass(slots=True, eq=False)
class Turn:
    """One request's."""

    tenant_id: str = ""
    ahead: int = 0
    is_under_way: bool = False
    waited_s: float = 0.0
    called: asyncio.Future[None] = field(init=False)
