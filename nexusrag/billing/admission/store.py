"""What Redis keeps for admission, as typed questions: each is one script, and so one round trip. What is awaited raises RedisAwayError."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial
from time import monotonic
from typing import Any, NamedTuple

from nexusrag.billing.admission import scripts
from nexusrag.infra.redis import Redis, RedisAwayError
from nexusrag.infra.redis_line import Argument
from nexusrag.kernel.ids import new_id
from nexusrag.settings.rates import RateSettings

LEASE_S = 30  # after which a process that does not renew its leases counts as dead
_EPOCH_MS = 5000
_KEPT_S = (3 * 86_400, 40 * 86_400)  # counts of a day, of a month
_SEEN_MS = 30 * 86_400_000
_REMEMBERED_S = 5.0  # by then a process has written them to PostgreSQL, as a rule after one second
_MOST_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Lease:
    """One request under way: whose, on which day it was counted, how many units and in which field (`p` plain, `r` runs)."""

    tenant_id: str
    day: date
    units: int
    field: str
    member: str

    @classmethod
    def new(cls, tenant_id: str, day: date, units: int, *, run: bool) -> "Lease":
        field = "r" if run else "p"
        return cls(tenant_id, day, units, field, f"{field}|{units}|{_names(day).day}|{new_id('lease')}")


@dataclass(frozen=True, slots=True)
class Decision:
    """What the script found. `refused_by`: 1 the credential's bucket, 2 the tenant's, 0 none. `over`: 1 the day's limit, 2 the month's.

    `emptied`: the bucket of which this request took the last token, numbered alike; `wait_ms` is until that or the refusing one has a token
    again. `scarce`: few of the tenant's places were left. `ahead`: thousandths of the tenant's bucket that were gone before,
    0 where that is what anybody may spend who comes with a handful of requests at once.
    `day_used` and `month_used` are -1 where the units are not known.
    """

    refused_by: int
    wait_ms: int
    leased: bool
    scarce: bool
    over: int
    day_used: int
    month_used: int
    ahead: int
    emptied: int


class _Plain(NamedTuple):
    """Plain units of a day and its month, as Redis told them last, and when."""

    at: float
    in_day: int
    in_month: int


class Store:
    """The scripts with their keys.

    All units are loaded anew after Redis was away, on a new connection to it, and after `_EPOCH_MS` without a process. Plain units that
    were not written yet are nowhere else then: each process remembers those that it was told within some seconds, and tells Redis of them
    before it goes on in another epoch.
    """

    def __init__(self, redis: Redis, settings: RateSettings) -> None:
        self._redis = redis
        self._prefix = settings.rl_redis_prefix
        self._failures = 0
        self._begun = (0, 0)  # losses of the line and failures, as they were when this process last began an epoch
        self._known = ""  # the epoch in which what is remembered was told
        self._remembered: OrderedDict[tuple[str, date], _Plain] = OrderedDict()
        self._telling = asyncio.Lock()

        script = redis.script
        self._admit, self._release, self._renew = script(scripts.ADMIT), script(scripts.RELEASE), script(scripts.RENEW)
        self._load, self._raise, self._plain = script(scripts.LOAD), script(scripts.TELL), script(scripts.PLAIN)
        self._runs, self._agree, self._due = script(scripts.RUNS), script(scripts.AGREE), script(scripts.DUE)
        self._written = script(scripts.WRITTEN)
        self._stranger, self._recognised = script(scripts.STRANGER), script(scripts.RECOGNISED)
        self._epoch, self._dirty, self._compared = self._key("epoch"), self._key("dirty"), self._key("due")

    async def admit(
        self,
        lease: Lease,
        *,
        buckets: tuple[str, str],
        rates: tuple[float, int, float, int] | None,
        most: int,
        limits: tuple[int | None, int | None],
        must_know: bool,
    ) -> Decision | None:
        """Take what one request needs, or say what is in the way. None: `load` the tenant's units first.

        `rates`: per second and burst of both buckets; `most`: leases of the tenant at once, 0 for any number.
        """
        key_rps, key_burst, tenant_rps, tenant_burst = rates or (1, 1, 1, 1)
        day, month = self._units(lease.tenant_id, lease.day)
        leases = self._leases(lease.tenant_id)
        keys = [*(self._key("rate", name) for name in buckets), leases, day, month, self._epoch, self._dirty, self._compared]
        arguments: list[Argument] = [
            1 if rates else 0, interval_us(key_rps), key_burst, interval_us(tenant_rps), tenant_burst, most, LEASE_S * 1_000_000,
            lease.member, lease.units, lease.field, *(-1 if limit is None else limit for limit in limits),
            _names(lease.day).day, _named(lease.tenant_id, lease.day), 1 if must_know else 0,
        ]  # fmt: skip
        answer = await self._ask(lambda: self._admit(keys, [*arguments, self._known]))
        if answer[0] < 0:
            return None
        refused_by, wait_ms, leased, over, day_used, month_used, *plain, ahead, emptied = answer
        if day_used >= 0 and month_used >= 0:
            self._remember(lease, *plain)
        return Decision(refused_by, wait_ms, leased > 0, leased > 1, over, day_used, month_used, ahead, emptied)

    async def release(self, lease: Lease, *, give_back: bool) -> None:
        """End a lease; with its units, unless they are spent. Again has no effect."""
        back = lease.units if give_back else 0
        given = await self._ask(lambda: self._release(*self._ending(lease, back)))
        held = self._remembered.get((lease.tenant_id, lease.day))
        if given and back and lease.field == "p" and held is not None:
            self._remembered[lease.tenant_id, lease.day] = _Plain(held.at, held.in_day - back, held.in_month - back)

    def end(self, lease: Lease, missed: Callable[[], None]) -> None:
        """Begin to end a lease whose units are spent, before whatever is asked next. `missed` is called where it comes to nothing."""

        def look(ended: asyncio.Future[Any]) -> None:
            if ended.cancelled() or ended.exception() is not None:
                missed()

        try:
            self._redis.tell(lambda: self._release.tell(*self._ending(lease, 0))).add_done_callback(look)
        except RedisAwayError:
            missed()

    def _ending(self, lease: Lease, back: int) -> tuple[list[str], list[Argument]]:
        keys = [self._leases(lease.tenant_id), *self._units(lease.tenant_id, lease.day), self._dirty]
        return keys, [lease.member, back, lease.field, _named(lease.tenant_id, lease.day)]

    async def renew(self, leases: Sequence[Lease]) -> None:
        """Keep leases from expiring; what Redis lost of them comes back."""
        tenants = {tenant_id: place for place, tenant_id in enumerate(sorted({lease.tenant_id for lease in leases}), 1)}
        arguments: list[Argument] = [LEASE_S * 1_000_000]
        for lease in leases:
            arguments += [tenants[lease.tenant_id], lease.member]
        keys = [self._leases(tenant_id) for tenant_id in tenants]
        await self._ask(lambda: self._renew(keys, arguments))

    async def load(self, tenant_id: str, day: date, plain: tuple[int, int], runs: tuple[int, int]) -> None:
        """What PostgreSQL knows of the tenant's day and month, unless Redis knows more."""
        keys = [self._epoch, *self._units(tenant_id, day), self._dirty]
        arguments: list[Argument] = [new_id("epoch"), _EPOCH_MS, plain[0], runs[0], plain[1], runs[1], *_KEPT_S, _named(tenant_id, day)]
        await self._follow(await self._ask(lambda: self._load(keys, arguments)))

    async def beat(self) -> None:
        """Some process lives: what was loaded stays good."""
        await self._follow(await self._ask(lambda: self._redis.line.run("GETEX", self._epoch, "PX", _EPOCH_MS)))

    async def unwritten(self, most: int) -> Mapping[tuple[str, date], int]:
        """Plain units of the tenants and days that have changed since they were written; -1 where they must be loaded first."""
        members = await self._ask(lambda: self._redis.line.run("SRANDMEMBER", self._dirty, most))
        days = [_read(member) for member in members or ()]
        if not days:
            return {}
        keys = [self._epoch, *(self._units(*day)[0] for day in days)]
        counts = await self._ask(lambda: self._plain(keys, []))
        return dict(zip(days, counts, strict=True))

    async def written(self, counts: Mapping[tuple[str, date], int]) -> None:
        """PostgreSQL has these."""
        keys = [self._dirty, *(self._units(*day)[0] for day in counts)]
        arguments: list[Argument] = [argument for day, count in counts.items() for argument in (_named(*day), count)]
        await self._ask(lambda: self._written(keys, arguments))

    async def due(self, most: int, again_s: float) -> list[tuple[str, date]]:
        """Tenants and days whose runs should be compared with the ledger now."""
        found = await self._ask(lambda: self._due([self._compared], [most, int(again_s * 1_000_000)]))
        return [_read(member) for member in found]

    async def runs(self, tenant_id: str, day: date) -> tuple[int, int]:
        """Units of runs in the day and its month; -1 while one is under way."""
        keys = [self._leases(tenant_id), *self._units(tenant_id, day), self._compared]
        in_day, in_month = await self._ask(lambda: self._runs(keys, [_named(tenant_id, day)]))
        return in_day, in_month

    async def agree(self, tenant_id: str, day: date, seen: tuple[int, int], held: tuple[int, int]) -> bool:
        """Set the units of runs to what the ledger holds, unless they have changed since they were seen."""
        keys = [self._leases(tenant_id), *self._units(tenant_id, day), self._compared]
        arguments: list[Argument] = [_named(tenant_id, day), *seen, *held]
        return bool(await self._ask(lambda: self._agree(keys, arguments)))

    async def stranger(self, address: str, rate: tuple[float, int], credential: str | None) -> int:
        """Take a token of an address: the wait in ms, 0 when there was one, -1 when the credential was good before."""
        keys = [self._key("address", address), self._key("seen", credential or "")]
        arguments = [interval_us(rate[0]), rate[1], 1 if credential else 0]
        return int(await self._ask(lambda: self._stranger(keys, arguments)))

    async def recognised(self, address: str, rate: tuple[float, int], credential: str) -> None:
        """The credential was good after all."""
        keys = [self._key("address", address), self._key("seen", credential)]
        arguments = [interval_us(rate[0]), rate[1], _SEEN_MS]
        await self._ask(lambda: self._recognised(keys, arguments))

    async def forget(self, credential: str) -> None:
        """It is not good any more."""
        await self._ask(lambda: self._redis.line.run("DEL", self._key("seen", credential)))

    async def first(self, what: str, for_s: int) -> bool:
        """Whether nobody, in any process, has asked this within `for_s` seconds."""
        return bool(await self._ask(lambda: self._redis.line.run("SET", self._key("told", what), 1, "NX", "EX", for_s)))

    async def _ask(self, command: Callable[[], Awaitable[Any]]) -> Any:
        try:
            if self._begun != (self._redis.line.losses, self._failures):
                await self._begin()
            return await self._redis.ask(command)
        except RedisAwayError:
            self._failures += 1
            raise

    async def _begin(self) -> None:
        """Redis may have forgotten, or remember what was some time ago, and PostgreSQL may have counted: whoever comes next loads."""
        async with self._telling:
            while self._begun != (now := (self._redis.line.losses, self._failures)):
                epoch = new_id("epoch")
                await self._redis.ask(partial(self._tell, epoch))
                self._begun, self._known = now, epoch

    async def _follow(self, answer: bytes | None) -> None:
        """Go on in the epoch that somebody else began; until then this process admits nothing."""
        epoch = (answer or b"").decode()
        if epoch == self._known:
            return
        begun = self._begun
        async with self._telling:
            if epoch == self._known or begun != self._begun:  # somebody has told meanwhile, or begun a later one
                return
            if self._remembered:
                await self._redis.ask(lambda: self._tell(""))
            self._known = epoch

    async def _tell(self, begin: str) -> None:
        """Tell Redis the plain units that this process remembers; and begin an epoch, unless it is empty."""
        oldest = monotonic() - _REMEMBERED_S
        fresh = {day: held for day, held in self._remembered.items() if held.at > oldest}
        keys = [self._epoch, self._dirty, *(key for day in fresh for key in self._units(*day))]
        arguments: list[Argument] = [begin, _EPOCH_MS, *_KEPT_S]
        for day, held in fresh.items():
            arguments += [_named(*day), held.in_day, held.in_month]
        await self._raise(keys, arguments)

    def _remember(self, lease: Lease, in_day: int, in_month: int) -> None:
        day = lease.tenant_id, lease.day
        self._remembered[day] = _Plain(monotonic(), in_day, in_month)
        self._remembered.move_to_end(day)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)

    @property
    def is_left_alone(self) -> bool:
        """Redis is not asked at present."""
        return self._redis.is_left_alone

    def _key(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))

    def _leases(self, tenant_id: str) -> str:
        return self._key("leases", tenant_id)

    def _units(self, tenant_id: str, day: date) -> tuple[str, str]:
        names = _names(day)
        return f"{self._prefix}:units:{tenant_id}:{names.day}", f"{self._prefix}:units:{tenant_id}:{names.month}"


class _Names(NamedTuple):
    """A day as it stands in keys and members: itself, its month, in ISO form."""

    day: str
    month: str
    iso: str


@lru_cache(maxsize=64)
def _names(day: date) -> _Names:
    return _Names(f"{day:%Y%m%d}", f"{day:%Y%m}", day.isoformat())


def interval_us(per_second: float) -> int:
    """Between two tokens; rounded up, so that a bucket never gives more than it should."""
    return math.ceil(1_000_000 / per_second)


def _named(tenant_id: str, day: date) -> str:
    return f"{tenant_id}|{_names(day).iso}"


def _read(member: bytes) -> tuple[str, date]:
    tenant_id, _, day = member.decode().rpartition("|")
    return tenant_id, date.fromisoformat(day)
