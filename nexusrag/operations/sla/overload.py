"""What a process does when it cannot keep up: it takes fewer requests at once, and refuses the others before anything is spent on them.

Overload is a standing delay, of the process's own loop or of the wait for a connection to the database: the least one over a tenth of a
second, since one long step is none, for a whole second, since a burst is none, and for less where the delay is many times what it may be.
From then on the number of requests in flight follows the delay: fewer in proportion while it stands, a few more while it does not. The
larger the part that is refused for that, the smaller the delay that is allowed, as long as the loop keeps its processor busy: each
request costs more the more others are under way, and others are always waiting. Who has how many of the places: a ninth part of the
upper half more for each step of plan (free, pro, enterprise) and, within a plan, of class (read, mutation, run). So the free plan's reads
go first and the enterprise plan's runs last. While several tenants ask, none of them holds more than an equal part of the places, however
often it asks.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic, thread_time

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nexusrag.identity.credentials.facade import peek
from nexusrag.infra.ids import request_id_of
from nexusrag.infra.metrics import DATABASE_WAIT, IN_FLIGHT, IN_FLIGHT_LIMIT, LOOP_LAG, SHED
from nexusrag.infra.resources import Resources
from nexusrag.infra.turns import TURN_KEY, Turn, Turns
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.features import PlanId
from nexusrag.kernel.principal import Principal
from nexusrag.kernel.traffic import RouteClass, class_of
from nexusrag.settings.sla import SlaSettings
from nexusrag.web.envelope import error_response, errors_below
from nexusrag.web.legacy import legacy_headers
from nexusrag.web.server import SEEN_KEY

# Beyond this no process comes, and nobody counts.
_MOST = 10_000
_TICK_S, _LOOK_S = 0.02, 0.1
# Who was refused comes again after a second: until well after that a tenant counts as one that asks.
_ASKS_S = 3.0
_PATIENCE_S = 1.0
_MUCH_FEWER, _FEWER, _MORE = 0.25, 0.9, 0.05
_LEAST_ALLOWED = 0.1  # of the delay that counts as overload, where nearly all is refused
_MANY = 0.2
# Of a processor. A loop that uses less is late for other reasons than those whom it takes: refusing more would make it no better.
_BUSY = 0.5
_PLANS = {plan: rank for rank, plan in enumerate(PlanId)}
_CLASSES = {RouteClass.READ: 0, RouteClass.MUTATION: 1, RouteClass.RUN: 2}
_SHED = {route_class: SHED.labels("overload", route_class.value) for route_class in RouteClass}
# What machines ask to see whether we live, with a credential or without: refused, it would end the process that has too much to do.
_PROBES = frozenset({"/v1/health", "/v1/metrics", "/health"})
_STEPS = len(_PLANS) * len(_CLASSES)
REFUSED = ApiError(
    ErrorCode.SLA_SHED_LOAD,
    "More is asked than can be answered at present; try again shortly.",
    {"reason": "overload"},
    headers={"Retry-After": "1"},
)


class Overload:
    """How many requests are in flight in this process, and how many may be."""

    def __init__(self, settings: SlaSettings, database_wait_s: Callable[[], float] = lambda: 0.0) -> None:
        self._settings = settings
        self._database_wait_s = database_wait_s
        self._least = settings.overload_least_in_flight
        self._peak = 0
        self._late_s = 0.0
        self._lag_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._taken = self._refused = 0  # since the last look
        self._refused_part = 0.0
        self._held: Counter[str] = Counter()
        self._asking: dict[str, float] = {}
        self.limit = float(_MOST)
        self.in_flight = 0
        self.turns = Turns(lambda: self.is_late)

    def start(self) -> None:
        if self._settings.overload_protection_enabled:
            self._task = asyncio.create_task(self._look(), name="overload")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_pressed(self) -> bool:
        """Whether it matters who asks: somebody's share of the places is taken."""
        return self.at_work >= self.share(0)

    @property
    def at_work(self) -> int:
        """Requests in flight that do not wait for their turn."""
        return self.in_flight - self.turns.waiting

    @property
    def is_late(self) -> bool:
        """Whether the loop was late in the last tenth of a second, as it is under overload: that may be a burst."""
        return 1000 * self._lag_s > self._settings.overload_lag_ms

    @property
    def refuses_many(self) -> bool:
        """Whether more than a few of those who asked of late were refused."""
        return self._refused_part > _MANY

    def share(self, rank: int) -> float:
        """How many requests may be in flight for one of this rank to be taken; a rank is 0 to 8."""
        return self.limit * (0.5 + 0.5 * (rank + 1) / _STEPS)

    def admits(self, tenant_id: str, rank: int) -> bool:
        """Whether a request is taken while the process is pressed."""
        self._asking[tenant_id] = monotonic() + _ASKS_S
        if self.at_work >= self.share(rank):
            self._refused += 1
            return False
        return len(self._asking) <= 1 or self._held[tenant_id] < self.limit / len(self._asking)

    def enter(self, tenant_id: str = "") -> None:
        """`tenant_id`: whose request it is, where that matters."""
        self.in_flight += 1
        self._taken += 1
        self._held[tenant_id] += 1
        self._peak = max(self._peak, self.in_flight)

    def leave(self, tenant_id: str = "") -> None:
        """What has entered."""
        self.in_flight -= 1
        self._held[tenant_id] -= 1
        if not self._held[tenant_id]:
            del self._held[tenant_id]

    def allowed(self, busy: float) -> float:
        """The part of a delay that is none yet, by how many were refused of late and how busy the loop is (1: a whole processor)."""
        asked = self._taken + self._refused
        self._refused_part += 0.5 * ((self._refused / asked if asked else 0.0) - self._refused_part)
        self._taken = self._refused = 0
        return max(1 - self._refused_part, _LEAST_ALLOWED) if busy >= _BUSY else 1.0

    def note_lag(self, lag_s: float) -> None:
        """How late the loop was within the last `_TICK_S`."""
        self._lag_s += (lag_s - self._lag_s) / 5

    def learn(self, delay: float) -> None:
        """Follow a standing delay that was seen for the last tenth of a second, in parts of the one that counts as overload."""
        peak, self._peak = self._peak, self.in_flight
        if delay <= 1:
            self._late_s = 0.0
            # The nearer to the limit, the less more: what swings back and forth does less than what stands still.
            self.limit = min(self.limit + (self.limit * _MORE + 1) * (1 - delay), _MOST)
            return
        self._late_s += _LOOK_S * delay  # what is far too much is not waited out for as long
        if self._late_s >= _PATIENCE_S or self.limit < _MOST:
            fewer = min(max(1 / delay, _MUCH_FEWER), _FEWER)
            self.limit = max(min(self.limit, peak) * fewer, self._least)

    async def _look(self) -> None:
        while True:
            began = before = monotonic()
            used = thread_time()
            lags: list[float] = []
            while before - began < _LOOK_S or len(lags) < 2:  # one alone may be a long step
                await asyncio.sleep(_TICK_S)
                now = monotonic()
                lags.append(max(now - before - _TICK_S, 0.0))
                self.note_lag(lags[-1])
                before = now
            lag_s, wait_s = min(lags), self._database_wait_s()
            self._asking = {tenant_id: until for tenant_id, until in self._asking.items() if until > before}
            delay = 1000 * max(lag_s / self._settings.overload_lag_ms, wait_s / self._settings.overload_db_wait_ms)
            self.learn(delay / self.allowed((thread_time() - used) / (before - began)))
            LOOP_LAG.set(lag_s)
            DATABASE_WAIT.set(wait_s)
            IN_FLIGHT.set(self.in_flight)
            IN_FLIGHT_LIMIT.set(self.limit)


def rank_of(principal: Principal, route_class: RouteClass) -> int:
    """The place in the order in which requests are refused, the first being 0."""
    return _PLANS[principal.plan] * len(_CLASSES) + _CLASSES[route_class]


class OverloadGuard:
    """Middleware around everything else. Whom it does not know from memory it lets pass: they may be admins, who are never refused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        resources: Resources = scope["app"].state.resources
        overload = resources.get(Overload)
        known = peek(resources, scope["headers"], scope.get(SEEN_KEY, {})) if overload.is_pressed else None
        if known is not None and shed(overload, known, scope["method"], scope["path"]) is not None:
            await _refuse(scope, receive, send)
            return
        tenant_id = known.tenant_id if known is not None else ""
        overload.enter(tenant_id)
        turn = scope[TURN_KEY] = Turn()
        # A stream that waits for others is nobody's burden. A run's work has its first part behind it when the model begins to speak:
        # after the start of the answer and the event that says that the run is accepted.
        left = 3 if scope["path"].removeprefix("/v1") == "/run" else 1

        async def begun(message: Message) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                overload.leave(tenant_id)
                overload.turns.leave(turn)
            await send(message)

        try:
            await self._app(scope, receive, begun)
        finally:
            if left > 0:
                overload.leave(tenant_id)
                overload.turns.leave(turn)


def shed(overload: Overload, principal: Principal, method: str, path: str) -> ApiError | None:
    """The refusal of this request, or None. Admins and operators' views are never refused."""
    if not overload.is_pressed or principal.is_admin or path in _PROBES:
        return None
    route_class = RouteClass.RUN if path.removeprefix("/v1") == "/run" else class_of(method, path)
    if route_class is RouteClass.OPS or overload.admits(principal.tenant_id, rank_of(principal, route_class)):
        return None
    _SHED[route_class].inc()
    return REFUSED


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in the form of the path."""
    path, request_id = scope["path"], request_id_of(HTTPConnection(scope))
    if path.startswith("/v1/"):
        answer = errors_below(scope["app"].state.errors, path).answer(REFUSED, request_id)
    else:
        answer = error_response(REFUSED, request_id, legacy=True, headers=legacy_headers())
    await answer(scope, receive, send)
