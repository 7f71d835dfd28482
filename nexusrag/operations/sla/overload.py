"""What a process does when it cannot keep up: it takes fewer requests at once, and refuses the others before anything is spent on them.

Overload is a standing delay, of the process's own loop or of the wait for a connection to the database: the least one over a tenth of a
second, since one long step is none, for a whole second, since a burst is none. From then on the number of requests in flight follows the
delay: up to half as many while it stands, a few more while it does not. Who has how many of the places: a ninth part of the upper half
more for each step of plan (free, pro, enterprise) and, within a plan, of class (read, mutation, run). So the free plan's reads go first
and the enterprise plan's runs last.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nexusrag.identity.credentials.facade import peek
from nexusrag.infra.ids import request_id_of
from nexusrag.infra.metrics import DATABASE_WAIT, IN_FLIGHT, IN_FLIGHT_LIMIT, LOOP_LAG, SHED
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.features import PlanId
from nexusrag.kernel.principal import Principal
from nexusrag.kernel.traffic import RouteClass, class_of
from nexusrag.settings.sla import SlaSettings
from nexusrag.web.envelope import ENVELOPED, error_response, errors_below
from nexusrag.web.legacy import legacy_headers

# Beyond this no process comes, and nobody counts.
_MOST = 10_000
_TICK_S, _LOOK_S = 0.02, 0.1
_PATIENCE_S = 1.0
_MUCH_FEWER, _FEWER, _MORE = 0.5, 0.8, 1.05
_PLANS = {plan: rank for rank, plan in enumerate(PlanId)}
_CLASSES = {RouteClass.READ: 0, RouteClass.MUTATION: 1, RouteClass.RUN: 2}
_SHED = {route_class: SHED.labels("overload", route_class.value) for route_class in RouteClass}
_STEPS = len(_PLANS) * len(_CLASSES)
_REFUSED = ApiError(
    ErrorCode.SLA_SHED_LOAD,
    "More is asked than can be answered at present; try again shortly.",
    {"reason": "overload"},
    headers={"Retry-After": "1"},
)
_PLACE = "~"  # of the request's id
_BODY = bytes(error_response(_REFUSED, _PLACE).body).split(_PLACE.encode())
_HEADERS = ((b"content-type", b"application/json"), (b"retry-after", b"1"))


class Overload:
    """How many requests are in flight in this process, and how many may be."""

    def __init__(self, settings: SlaSettings, database_wait_s: Callable[[], float] = lambda: 0.0) -> None:
        self._settings = settings
        self._database_wait_s = database_wait_s
        self._least = settings.overload_least_in_flight
        self._peak = 0
        self._late_since: float | None = None
        self._task: asyncio.Task[None] | None = None
        self.limit = float(_MOST)
        self.in_flight = 0

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
        return self.in_flight >= self.share(0)

    def share(self, rank: int) -> float:
        """How many requests may be in flight for one of this rank to be taken; a rank is 0 to 8."""
        return self.limit * (0.5 + 0.5 * (rank + 1) / _STEPS)

    def enter(self) -> None:
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)

    def leave(self) -> None:
        self.in_flight -= 1

    def learn(self, delay: float, now: float) -> None:
        """Follow a standing delay that was seen up to `now` (`monotonic`), in parts of the one that counts as overload."""
        peak, self._peak = self._peak, self.in_flight
        if delay <= 1:
            self._late_since = None
            self.limit = min(self.limit * _MORE + 1, _MOST)
            return
        if self._late_since is None:
            self._late_since = now
        if now - self._late_since >= _PATIENCE_S or self.limit < _MOST:
            fewer = min(max(1 / delay, _MUCH_FEWER), _FEWER)
            self.limit = max(min(self.limit, peak) * fewer, self._least)

    async def _look(self) -> None:
        while True:
            began = before = monotonic()
            lags: list[float] = []
            while before - began < _LOOK_S or len(lags) < 2:  # one alone may be a long step
                await asyncio.sleep(_TICK_S)
                now = monotonic()
                lags.append(max(now - before - _TICK_S, 0.0))
                before = now
            lag_s, wait_s = min(lags), self._database_wait_s()
            self.learn(1000 * max(lag_s / self._settings.overload_lag_ms, wait_s / self._settings.overload_db_wait_ms), before)
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
        if overload.is_pressed and (found := _refused(scope, resources, overload)) is not None:
            _SHED[found].inc()
            await _refuse(scope, receive, send)
            return
        overload.enter()
        counted = True

        async def begun(message: Message) -> None:
            nonlocal counted
            if counted:  # a stream that has begun waits for others, and others do not wait for it
                counted = False
                overload.leave()
            await send(message)

        try:
            await self._app(scope, receive, begun)
        finally:
            if counted:
                overload.leave()


def _refused(scope: Scope, resources: Resources, overload: Overload) -> RouteClass | None:
    """The class of a request that is refused, or None."""
    path: str = scope["path"]
    route_class = RouteClass.RUN if path.removeprefix("/v1") == "/run" else class_of(scope["method"], path)
    if route_class is RouteClass.OPS:
        return None
    principal = peek(resources, scope["headers"])
    if principal is None or principal.is_admin or overload.in_flight < overload.share(rank_of(principal, route_class)):
        return None
    return route_class


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in the form of the path: the usual one from what was made beforehand, since whoever is overloaded has no time."""
    path, request_id = scope["path"], request_id_of(HTTPConnection(scope))
    if not path.startswith("/v1/"):
        await error_response(_REFUSED, request_id, legacy=True, headers=legacy_headers())(scope, receive, send)
        return
    errors = errors_below(scope["app"].state.errors, path)
    if errors is not ENVELOPED:
        await errors.answer(_REFUSED, request_id)(scope, receive, send)
        return
    body = request_id.encode().join(_BODY)
    headers = [*_HEADERS, (b"content-length", b"%d" % len(body)), (b"x-request-id", request_id.encode())]
    await send({"type": "http.response.start", "status": _REFUSED.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
