"""Admission of one request: asks Redis once, loads it where it has forgotten, and does without it where it is away."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, Literal, NamedTuple

import asyncpg
import structlog

from nexusrag.billing.admission.store import LEASE_S, Decision, Lease, Store
from nexusrag.billing.ledger.facade import PeriodName, count_directly, figures, give_back_directly
from nexusrag.billing.quotas.facade import Quota, caps, quota_of
from nexusrag.infra.database import Database
from nexusrag.infra.redis import Redis, RedisAwayError
from nexusrag.infra.resources import Resources
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.principal import Credential, Principal
from nexusrag.kernel.traffic import RouteClass
from nexusrag.security.audit import facade as audit
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext, Outcome

log = structlog.get_logger(__name__)
TELL_EVERY_S = 60
_MOST_TOLD = 10_000
_ENDED_AT_ONCE = 100
_NEWS_FOR_S = 0.05  # how long it is true that many places are left
_PERIODS: tuple[PeriodName, ...] = ("day", "month")
Bucket = Literal["key", "tenant"]
_BUCKETS: tuple[Bucket | None, ...] = (None, "key", "tenant")
STATUS = "X-RateLimit-Status"


@dataclass(slots=True)
class Taken:
    """What a request took besides rate tokens. It is given back unless the request was answered and `spent` stands.

    From `waits_from` (monotonic seconds) on, the answer waits until its lease has ended: until then the tenant has places to spare.
    """

    lease: Lease
    spent: bool = True
    waits_from: float = 0.0


class _Unended(NamedTuple):
    """The end of a lease that Redis was not told. Well after it has run out by itself, it is forgotten."""

    lease: Lease
    give_back: bool
    until: float


@dataclass(frozen=True, slots=True)
class Admission:
    """The verdicts about one request; each stage raises its own. `units` are those that it counts.

    `wait_ms`: until the bucket that refused the request, or that it has emptied, has a token again.
    `place`: the tenant has not too many requests under way. `over`: the period whose hard cap is in the way. `used`: units of the day and
    the month, with this request's unless it was refused; None where they are not known. `counted`: the units were decided here; otherwise
    (Redis is away, and it is a run) the ledger decides, and `used` is as of before. `ahead`: how much of its burst the tenant
    was spending already in this class of routes, in thousandths.
    """

    quota: Quota
    units: int = 0
    refused_by: Bucket | None = None
    emptied: Bucket | None = None
    wait_ms: int = 0
    place: bool = True
    over: PeriodName | None = None
    used: tuple[int, int] | None = None
    counted: bool = True
    taken: Taken | None = None
    ahead: int = 0


class Admissions:
    """The admissions of one process, with the leases of its requests."""

    def __init__(self, resources: Resources) -> None:
        settings = resources.get(Settings)
        self._resources = resources
        self._database = resources.get(Database)
        self._rates = settings.rates
        self.store = Store(resources.get(Redis), settings.rates)
        self.held: dict[str, Lease] = {}
        self._unended: dict[str, _Unended] = {}
        self._told: OrderedDict[str, float] = OrderedDict()
        self._per_class = {one: (*settings.rates.key_rate(one), *settings.rates.tenant_rate(one)) for one in RouteClass}

    async def admit(self, call: CallContext) -> Admission:
        """The verdicts about the request. What it took is given back by itself when the request is over.

        What runs without a transaction answers while the database is away, and whatever was used: it counts no units.
        Raises RATE_LIMIT_UNAVAILABLE where nothing goes without Redis.
        """
        principal, gate = call.principal, call.gate
        is_run = call.route_class is RouteClass.RUN
        quota = await quota_of(call.resources, principal) if gate.transaction else Quota()
        units = gate.units if gate.transaction else 0
        lease = Lease.new(principal.tenant_id, clock.now().date(), units, run=is_run)
        asks, asked_at = not self.store.is_left_alone, monotonic()
        try:
            decision = await self._decide(call, quota, lease)
        except RedisAwayError:
            if asks:
                self._end_later(lease, True)  # it may have heard the question
            return await self._without_redis(call, quota, lease)
        except asyncio.CancelledError:
            self._end_later(lease, True)
            raise
        over = _PERIODS[decision.over - 1] if decision.over else None
        taken = None
        if not decision.refused_by and decision.leased and over is None:
            taken = Taken(lease, waits_from=0.0 if decision.scarce else asked_at + _NEWS_FOR_S)
            self.held[lease.member] = lease
            call.on_over(partial(self._end, taken))
        return Admission(
            quota,
            units,
            refused_by=_BUCKETS[decision.refused_by],
            emptied=_BUCKETS[decision.emptied],
            wait_ms=decision.wait_ms,
            place=decision.leased,
            over=over,
            used=(decision.day_used, decision.month_used) if decision.day_used >= 0 else None,
            taken=taken,
            ahead=decision.ahead,
        )

    async def _decide(self, call: CallContext, quota: Quota, lease: Lease) -> Decision:
        limits = (quota.day_units, quota.month_units) if quota.hard else (None, None)
        on, plain = self._rates.rate_limit_enabled, call.gate.transaction
        for _ in range(3):
            decision = await self.store.admit(
                lease,
                buckets=_buckets(call.principal, call.route_class),
                rates=self._per_class[call.route_class] if on else None,
                most=self._rates.tenant_max_concurrency if on and plain else 0,
                limits=limits,
                must_know=plain,
            )
            if decision is not None:
                return decision
            await self.load(lease.tenant_id, lease.day)
        raise RedisAwayError  # it forgets faster than it is told

    async def load(self, tenant_id: str, day: date) -> None:
        """Tell Redis what PostgreSQL knows of the tenant, and which of its requests are under way here."""
        async with self._database.work(tenant_id) as work:
            held = await figures(work, noon(day))
        plain = held.day.plain_units, held.month.plain_units
        runs = held.day.units - plain[0], held.month.units - plain[1]
        await self.store.load(tenant_id, day, plain, runs)
        if self.held:
            await self.renew()

    async def _without_redis(self, call: CallContext, quota: Quota, lease: Lease) -> Admission:
        await self.tell_degraded(call)
        closed = self._rates.rate_limit_enabled and self._rates.rl_fail_mode == "closed"
        if closed and call.gate.transaction and call.route_class is not RouteClass.OPS:
            raise unavailable()
        call.always[STATUS] = "degraded"
        if not call.gate.transaction:
            return Admission(quota, counted=False)
        async with self._database.work(lease.tenant_id) as work:
            if lease.units == 0 or lease.field == "r":
                held = await figures(work, noon(lease.day))
                return Admission(quota, lease.units, used=(held.day.units, held.month.units), counted=False)
            verdict = await count_directly(work, lease.units, caps(quota), noon(lease.day))
        used = verdict.figures.day.units, verdict.figures.month.units
        if verdict.state == "refused":
            return Admission(quota, lease.units, over=verdict.period, used=used)
        taken = Taken(lease)
        call.on_over(partial(self._end_directly, taken))
        return Admission(quota, lease.units, used=used, taken=taken)

    async def _end(self, taken: Taken, outcome: Outcome) -> None:
        lease, back = taken.lease, _is_given_back(taken, outcome)
        self.held.pop(lease.member, None)
        if not (back and lease.units) and monotonic() < taken.waits_from:
            self.store.end(lease, partial(self._end_later, lease, back))
            return
        try:
            await self.store.release(lease, give_back=back)
        except RedisAwayError:
            self._end_later(lease, back)

    async def _end_directly(self, taken: Taken, outcome: Outcome) -> None:
        if not _is_given_back(taken, outcome):
            return
        try:
            async with self._database.work(taken.lease.tenant_id) as work:
                await give_back_directly(work, taken.lease.units, noon(taken.lease.day))
        except (ApiError, asyncpg.PostgresError) as error:
            log.warning("admission.unreturned", tenant=taken.lease.tenant_id, error=type(error).__name__)

    async def renew(self) -> None:
        """Keep the leases of this process. What ended while it was being told so is ended again."""
        leases = list(self.held.values())
        if not leases:
            return
        try:
            await self.store.renew(leases)
        finally:  # it may have been heard though it failed
            ended = [lease for lease in leases if lease.member not in self.held]
            for lease in ended:
                before = self._unended.get(lease.member)
                self._end_later(lease, before is not None and before.give_back)
        await self._end_again([lease.member for lease in ended])

    async def end_unended(self) -> None:
        """Tell Redis what it could not be told when it happened."""
        while some := list(islice(self._unended, _ENDED_AT_ONCE)):
            await self._end_again(some)

    def _end_later(self, lease: Lease, give_back: bool) -> None:
        now = monotonic()
        self._unended.pop(lease.member, None)
        self._unended[lease.member] = _Unended(lease, give_back, now + 2 * LEASE_S)
        while next(iter(self._unended.values())).until < now:
            del self._unended[next(iter(self._unended))]

    async def _end_again(self, members: Iterable[str]) -> None:
        some = {member: self._unended[member] for member in members}
        await asyncio.gather(*(self.store.release(one.lease, give_back=one.give_back) for one in some.values()))
        for member, one in some.items():
            if self._unended.get(member) is one:  # else it was revived meanwhile
                del self._unended[member]

    def is_known(self, what: str) -> bool:
        """Whether this process has asked whether it is news within a minute."""
        return self._told.get(what, 0) > monotonic()

    async def is_news(self, what: str) -> bool:
        """Whether nobody was told this within a minute, in any process as far as Redis knows. A flood is told of once."""
        if self.is_known(what):
            return False
        self._told[what] = monotonic() + TELL_EVERY_S
        self._told.move_to_end(what)
        if len(self._told) > _MOST_TOLD:
            self._told.popitem(last=False)
        try:
            return await self.store.first(what, TELL_EVERY_S)
        except RedisAwayError:
            return True

    async def tell_degraded(self, call: CallContext) -> None:
        """Say once a minute that this process does without Redis."""
        if await self.is_news("degraded"):
            call.on_over(partial(_record_degraded, call, self._rates.rl_fail_mode))


async def record_limited(call: CallContext, told: dict[str, Any], _: Outcome) -> None:
    """The audit event of somebody who came too often, when the request is over. Failing to write it changes nothing."""
    tenant_id = call.tenant_id if call.known_principal else None
    try:
        async with call.of(Database).work(tenant_id) as work:
            await audit.write(call, work, EventType.RATE_LIMITED, told, error=ErrorCode.RATE_LIMITED)
    except (ApiError, asyncpg.PostgresError) as failure:
        log.error("audit.unwritten", event_type=EventType.RATE_LIMITED.value, error=type(failure).__name__, request_id=call.request_id)


async def _record_degraded(call: CallContext, mode: str, _: Outcome) -> None:
    try:
        async with call.of(Database).work(None) as work:
            await audit.write_system(work, EventType.RATE_LIMIT_DEGRADED, {"mode": mode, "window_s": TELL_EVERY_S})
    except (ApiError, asyncpg.PostgresError) as failure:
        log.error("audit.unwritten", event_type=EventType.RATE_LIMIT_DEGRADED.value, error=type(failure).__name__)


def noon(day: date) -> datetime:
    """A moment of the day."""
    return datetime.combine(day, time(12), UTC)


def unavailable() -> ApiError:
    """The refusal of a process that may not do without Redis."""
    return ApiError(ErrorCode.RATE_LIMIT_UNAVAILABLE, "Rate limits cannot be checked; try again shortly.", headers={"Retry-After": "1"})


def _is_given_back(taken: Taken, outcome: Outcome) -> bool:
    return not taken.spent or outcome.status >= 400 or outcome.replayed


def _buckets(principal: Principal, route_class: RouteClass) -> tuple[str, str]:
    """Names of the buckets: of the key, or of the person however often they log in; and of the tenant."""
    own = principal.subject_id if principal.credential is Credential.SESSION else principal.credential_id
    return f"{principal.tenant_id}:{route_class.value}:{own}", f"{principal.tenant_id}:{route_class.value}"
