"""What this process measures: one small sketch for each tenant, class of routes and window, written to the database every few seconds.

What is counted is what callers met: refusals that we chose (shedding, rates, switches) and faults of the caller are no failures.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter, time
from typing import Any

from nexusrag.infra.database import Database
from nexusrag.kernel.errors import STATUS, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.traffic import RouteClass
from nexusrag.operations.sla import repository
from nexusrag.operations.sla.sketch import Sketch
from nexusrag.web.call import CallContext, Outcome

# All tenants together stand under this name, which is no tenant's.
EVERYBODY = ""
# One route has figures of its own beside those of its class.
_APART = {"/v1/documents/text": "documents_text"}
# Refused on purpose, each by a rule of its own: none says that the service is bad.
_CHOSEN = frozenset({
    ErrorCode.SLA_SHED_LOAD, ErrorCode.FEATURE_TEMPORARILY_DISABLED, ErrorCode.WRITE_FROZEN, ErrorCode.RATE_LIMIT_UNAVAILABLE,
})  # fmt: skip
# While the database is away no more than so many cells are kept; the oldest are forgotten.
_MOST_CELLS = 20_000


@dataclass(slots=True)
class Cell:
    """One tenant's requests of one class in one window."""

    count: int = 0
    failures: int = 0
    sketch: Sketch = field(default_factory=Sketch)
    first_event: Sketch = field(default_factory=Sketch)
    written: int = 0  # how many of `count` the database has


Key = tuple[str, str, int]


class Measurer:
    """The open cells of one process. `add` is called once per answered request and never waits."""

    def __init__(self, database: Database, window_s: int) -> None:
        self.process = new_id("process")
        self._database = database
        self._window_s = window_s
        self._cells: dict[Key, Cell] = {}
        self._reports = False

    def watch(self, call: CallContext) -> None:
        """Measure this request when it is over."""
        names = [call.route_class.value]
        apart = _APART.get(call.request.scope["path"])
        if apart is not None:
            names.append(apart)
        tenant_id, began = call.principal.tenant_id, call.began

        async def over(outcome: Outcome) -> None:
            self.note(tenant_id, names, call.route_class, outcome, began)

        call.on_over(over)

    def note(self, tenant_id: str, names: list[str], route_class: RouteClass, outcome: Outcome, began: float) -> None:
        """Count one answer, unless it was refused on purpose or its client went away first."""
        code = outcome.error
        if code in _CHOSEN or outcome.status == 499:
            return
        failed = outcome.status >= 500 or (code is not None and STATUS[ErrorCode(code)] >= 500)
        streamed, now = outcome.first_at is not None, perf_counter()
        first_ms = (outcome.first_at - began) * 1000 if outcome.first_at is not None else None
        whole_ms: float | None = (now - began) * 1000
        if streamed and route_class is not RouteClass.RUN:
            whole_ms = first_ms  # whoever follows a run waits for as long as it lasts
        # Refusals are quick, and runs that are told again, were cancelled or left by their reader are short: none says how long it takes.
        if outcome.status >= 400 or code is not None or outcome.replayed or not outcome.complete:
            whole_ms = None
        for name in names:
            self.add(tenant_id, name, failed=failed, whole_ms=whole_ms, first_ms=first_ms)
            self.add(EVERYBODY, name, failed=failed, whole_ms=whole_ms, first_ms=first_ms)

    def add(self, tenant_id: str, name: str, *, failed: bool, whole_ms: float | None, first_ms: float | None = None) -> None:
        key = (tenant_id, name, int(time()) // self._window_s * self._window_s)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = Cell()
            if len(self._cells) > _MOST_CELLS:
                del self._cells[next(iter(self._cells))]
        self._reports = True
        cell.count += 1
        cell.failures += failed
        if whole_ms is not None:
            cell.sketch.add(whole_ms)
        if first_ms is not None:
            cell.first_event.add(first_ms)

    def together(self, tenant_id: str, rows: list[Any], since: datetime, until: datetime) -> list[Mapping[str, Any]]:
        """`rows` of the database with what this process has measured since it last wrote."""
        mine: dict[tuple[str, datetime], Mapping[str, Any]] = {}
        for (tenant, name, start), cell in self._cells.items():
            moment = _moment(start)
            if tenant == tenant_id and since <= moment < until:
                mine[name, moment] = {
                    "route_class": name, "window_start": moment, "count": cell.count, "failures": cell.failures,
                    "sketch": cell.sketch.dump(), "first_event": cell.first_event.dump(),
                }  # fmt: skip
        theirs = [row for row in rows if row["process"] != self.process or (row["route_class"], row["window_start"]) not in mine]
        return [*theirs, *mine.values()]

    async def flush(self) -> None:
        """Write what the database does not have yet, in one statement. What cannot be written stays for the next time."""
        if not self._reports:
            return
        rows = [(key, cell, cell.count) for key, cell in self._unwritten()]
        async with self._database.work(None) as work:
            await repository.record(
                work,
                self.process,
                [
                    (tenant, name, _moment(start), cell.count, cell.failures, cell.sketch.dump(), cell.first_event.dump())
                    for (tenant, name, start), cell, _ in rows
                ],
            )
        open_since = int(time()) // self._window_s * self._window_s
        for key, cell, count in rows:
            cell.written = count
            if key[2] < open_since and cell.count == count:
                self._cells.pop(key, None)

    def _unwritten(self) -> Iterator[tuple[Key, Cell]]:
        return ((key, cell) for key, cell in list(self._cells.items()) if cell.written < cell.count)


def _moment(start: int) -> datetime:
    return datetime.fromtimestamp(start, UTC)
