"""What this process was told to do with each tenant's requests, kept while changes are being heard; told nothing, it lets all through."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import time
from typing import Any

import asyncpg
import structlog

from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.traffic import RouteClass
from nexusrag.operations.sla import repository
from nexusrag.operations.sla.config import PolicyConfig, read
from nexusrag.operations.sla.verdict import Decision, Status
from nexusrag.settings import Settings

log = structlog.get_logger(__name__)
# Announced when a policy, an assignment or how a tenant stands has changed.
CHANGED, EVERYTHING = "sla", "*"
# Of requests that are shed, one in so many is let through, so that it shows when things are better.
PROBE_EVERY = 10
# A standing that nobody has judged anew for so many windows says nothing any more.
_STALE_WINDOWS = 4


@dataclass(frozen=True, slots=True)
class Stand:
    """How a tenant stands in one class of routes, as of the end of a window (seconds since 1970)."""

    status: Status
    decision: Decision
    window_end: float

    @property
    def window_end_text(self) -> str:
        return datetime.fromtimestamp(self.window_end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Bound:
    """A tenant's policy, and how it stands with it."""

    policy_id: str
    config: PolicyConfig
    until: float | None
    stands: Mapping[str, Stand] = field(default_factory=dict)


Met = tuple[str, RouteClass, str, Decision]


class Decisions:
    """`of` answers from memory. `enforced` counts what was done to requests since it was last written down."""

    def __init__(self, changes: Changes, database: Database, settings: Settings) -> None:
        self._changes = changes
        self._database = database
        self._window_s = settings.sla.sla_measurement_window_seconds
        self._enabled = settings.sla.sla_engine_enabled
        self._bound: dict[str, Bound] = {}
        self._shed: Counter[tuple[str, RouteClass]] = Counter()
        self.stale = asyncio.Event()
        self.enforced: Counter[Met] = Counter()
        changes.on(CHANGED, lambda _: self.stale.set(), dropped=self.clear)

    def of(self, tenant_id: str, route_class: RouteClass) -> tuple[Bound, Stand] | None:
        """The tenant's policy and how it stands; None where no policy binds it, and where this process cannot know."""
        bound = self._bound.get(tenant_id)
        if bound is None or not self._changes.live or (bound.until is not None and bound.until <= time()):
            return None
        if route_class not in bound.config.classes:
            return None
        stand, now = bound.stands.get(route_class.value), time()
        if stand is None or stand.window_end < now - _STALE_WINDOWS * self._window_s:
            stand = Stand(Status.HEALTHY, Decision.ALLOW, now // self._window_s * self._window_s)
        return bound, stand

    def sheds(self, tenant_id: str, route_class: RouteClass) -> bool:
        """Whether this one is shed, of those that may be."""
        self._shed[tenant_id, route_class] += 1
        return self._shed[tenant_id, route_class] % PROBE_EVERY != 0

    async def refresh(self) -> None:
        """Read all of it anew. What cannot be read is forgotten: nobody is refused for what may be over."""
        if not self._enabled:
            return
        self.stale.clear()  # before reading, so that a change meanwhile counts
        try:
            async with self._database.work(None) as work:
                rows = await repository.directory(work)
        except (ApiError, asyncpg.PostgresError, OSError) as error:
            log.warning("sla.signal_degraded", error=type(error).__name__)
            self._bound = {}
            return
        self._bound = {row["tenant_id"]: bound for row in rows if (bound := _bound(row)) is not None}
        self._shed = Counter({key: number for key, number in self._shed.items() if key[0] in self._bound})

    def clear(self) -> None:
        self._bound = {}
        self.stale.set()


def _bound(row: Any) -> Bound | None:
    try:
        config = read(row["config"], row["override"])
    except ApiError:  # stored by another release: it binds nobody here
        return None
    stands = {
        one["route_class"]: Stand(Status(one["status"]), Decision(one["decision"]), float(one["window_end"])) for one in row["states"] or ()
    }
    return Bound(row["policy_id"], config, row["effective_to"].timestamp() if row["effective_to"] else None, stands)
