"""Circuit breakers for outside systems, one for each integration and tenant, shared by all processes over Redis.

While one is closed, a process asks Redis about it once a second at most and reports failures alone: an ordinary call costs no round
trip. With Redis away each process has breakers of its own, which know what it heard last.
"""

import secrets
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil
from time import monotonic
from typing import Literal

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nexusrag.infra.breaker_state import ASK, LIST, REPORT, RESET, Answer, LocalState, Outcome, Rules, State
from nexusrag.infra.metrics import REGISTRY
from nexusrag.infra.redis import Redis
from nexusrag.infra.shared import Shared
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings.resilience import ResilienceSettings

_KNOWN_MS = 1000
_MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave for one attempt. A `token` means that it is the one try by which a breaker that was open finds out."""

    integration: str
    tenant_id: str
    token: str = ""

    @property
    def name(self) -> str:
        return f"{self.integration} {self.tenant_id}"


@dataclass(frozen=True, slots=True)
class Standing:
    """A breaker that is not as new. `retry_after_s` is 0 when a call may be tried; `failures` in a row are of a closed one."""

    integration: str
    tenant_id: str
    state: Literal["closed", "open", "half_open"]
    retry_after_s: int
    failures: int


@dataclass(slots=True)
class _Known:
    """What this process knows of one breaker: the last answer, and until when it is taken for true."""

    answer: Answer = (State.CLOSED, 0)
    fresh_until: int = 0
    reopens_at: int = 0
    local: LocalState = field(default_factory=LocalState)


class Breakers:
    """The breakers of a process. Without `redis` they are its own."""

    def __init__(self, settings: ResilienceSettings, redis: Redis | None = None) -> None:
        self._shared = Shared(redis)
        self._prefix = settings.cb_redis_prefix
        self._rules = Rules(settings.cb_failure_threshold, settings.cb_open_seconds * 1000, settings.cb_half_open_trials)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        _ALL.add(self)

    async def ask(self, integration: str, tenant_id: str, lease_s: float) -> Permit:
        """Leave to call. A try that says nothing within `lease_s` is over. Raises INTEGRATION_UNAVAILABLE."""
        permit = Permit(integration, tenant_id)
        known = self._of(permit.name)
        now = _now()
        if now >= known.fresh_until or known.answer[0] is State.HALF_OPEN:
            token, lease_ms = secrets.token_hex(8), ceil(lease_s * 1000)
            answer = await self._shared.run(ASK, [f"{self._prefix}:{permit.name}"], [token, lease_ms, self._rules.open_ms])
            if answer is not None:
                self._learn(known, (State(answer[0]), answer[1]))
            else:
                self._note(known, known.local.ask(_now(), token, lease_ms))
            if known.answer[0] is State.TRY:
                known.answer = (State.HALF_OPEN, 0)  # the next one asks anew
                return Permit(integration, tenant_id, token)
        if known.answer[0] is State.CLOSED:
            return permit
        raise _unavailable(integration, known.reopens_at - _now())

    async def report(self, permit: Permit, outcome: Outcome) -> None:
        """How the attempt went. `unknown`: it was left before that could be seen, or failed by a fault of our own."""
        known = self._of(permit.name)
        if not permit.token and (outcome == "unknown" or (outcome == "ok" and known.answer == (State.CLOSED, 0))):
            return
        rules = self._rules
        told: list[str | int | float] = [outcome, permit.token, permit.name]
        told += [rules.threshold, rules.open_ms, rules.trials, rules.row_ms]
        answer = await self._shared.run(REPORT, [f"{self._prefix}:{permit.name}", self._index], told)
        if answer is not None:
            self._learn(known, (State(answer[0]), answer[1]))
        else:
            self._note(known, known.local.report(_now(), outcome, permit.token, rules))

    def refuses(self, permit: Permit) -> bool:
        """Whether, as far as is known here, the next attempt would be refused."""
        return self._of(permit.name).answer[0] is not State.CLOSED

    async def standing(self, tenant_id: str | None = None) -> list[Standing]:
        """The breakers that are not as new, of one tenant or of all; with Redis away, those that this process knows."""
        found = await self._shared.run(LIST, [self._index], [f"{self._prefix}:"])
        if found is None:
            now = _now()
            rows = [(name, max(known.reopens_at - now, 0), known.local.failures if known.answer[0] is State.CLOSED else -1)
                    for name, known in self._known.items() if known.answer != (State.CLOSED, 0)]  # fmt: skip
        else:
            rows = [(name.decode(), left, failures) for name, left, failures in found]
        shown = [_standing(*row) for row in rows]
        return sorted((one for one in shown if tenant_id in (None, one.tenant_id)), key=lambda one: (one.integration, one.tenant_id))

    async def reset(self, integration: str, tenant_id: str | None = None) -> int:
        """Close the integration's breaker of one tenant, or of all; how many were not as new. Every process knows within a second."""
        standing = [one for one in await self.standing(tenant_id) if one.integration == integration]
        for name, known in self._known.items():
            if name.startswith(f"{integration} ") and tenant_id in (None, name.partition(" ")[2]):
                self._note(known, known.local.close())
                known.fresh_until = 0
        names = [f"{one.integration} {one.tenant_id}" for one in standing]
        if names:
            await self._shared.run(RESET, [self._index], [f"{self._prefix}:", *names])
        return len(names)

    def open_here(self) -> Iterable[str]:
        """The integration of each breaker that this process knows to refuse calls."""
        now = _now()
        return [
            name.partition(" ")[0] for name, known in self._known.items() if known.answer[0] is State.REFUSED and known.reopens_at > now
        ]

    @property
    def _index(self) -> str:
        return f"{self._prefix}:standing"

    def _of(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Known()
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(name)
        return known

    def _learn(self, known: _Known, answer: Answer) -> None:
        """Take an answer of Redis for true for a second; the process's own breaker follows it."""
        self._note(known, answer)
        now = _now()
        known.fresh_until = now + (_KNOWN_MS if answer[0] is State.CLOSED else min(_KNOWN_MS, answer[1]))
        if answer[0] is State.CLOSED:
            known.local.close()
        elif answer[0] is State.REFUSED:
            known.local.open(now, answer[1])

    def _note(self, known: _Known, answer: Answer) -> None:
        known.answer, known.fresh_until = answer, 0
        known.reopens_at = _now() + answer[1] if answer[0] is State.REFUSED else 0


def _standing(name: str, left_ms: int, failures: int) -> Standing:
    integration, _, tenant_id = name.partition(" ")
    state: Literal["closed", "open", "half_open"] = "closed" if failures >= 0 else "open" if left_ms else "half_open"
    return Standing(integration, tenant_id, state, ceil(left_ms / 1000), max(failures, 0))


def _unavailable(integration: str, left_ms: int) -> ApiError:
    seconds = max(1, ceil(left_ms / 1000))
    return ApiError(
        ErrorCode.INTEGRATION_UNAVAILABLE,
        f"Calls to {integration} have failed several times in a row; the next one is tried in {seconds} seconds.",
        {"integration": integration, "retry_after_s": seconds},
        headers={"Retry-After": str(seconds)},
    )


def _now() -> int:
    return int(monotonic() * 1000)


_ALL: "weakref.WeakSet[Breakers]" = weakref.WeakSet()


class _OpenBreakers(Collector):
    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Counted when asked for: nobody tells a process that a breaker's time is over."""
        gauge = GaugeMetricFamily("nexusrag_breakers_open", "Circuit breakers that this process knows to be open.", labels=["integration"])
        counts: dict[str, int] = {}
        for breakers in list(_ALL):
            for integration in breakers.open_here():
                family = family_of(integration)
                counts[family] = counts.get(family, 0) + 1
        for family, count in counts.items():
            gauge.add_metric([family], count)
        yield gauge


def family_of(integration: str) -> str:
    """The integration as a label: without the id of one tenant's identity provider."""
    return "sso" if integration.startswith("sso.") else integration


REGISTRY.register(_OpenBreakers())
