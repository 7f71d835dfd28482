"""The script of admission decides as a model that is written down naively, whatever order things come in, at every moment of its clock."""

import asyncio
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from nexusrag.billing.admission import scripts, store
from nexusrag.billing.admission.store import LEASE_S, Lease, Store, interval_us
from nexusrag.infra.redis import Redis
from nexusrag.kernel.ids import new_id
from tests.support.installation import Servers

DAY = date(2026, 2, 28)
KEY_RPS, KEY_BURST, TENANT_RPS, TENANT_BURST = 3.0, 4, 7.0, 6
PLACES = 5
_LIFE = ", 'PX', math.ceil((full - now) / 1000) + 1"


@dataclass
class Bucket:
    """Tokens at a moment, refilled as time passes. Time that goes back brings nothing and takes nothing."""

    interval: int
    burst: int
    tokens: Fraction = Fraction(-1)
    at: int = 0

    def __post_init__(self) -> None:
        self.tokens = Fraction(self.burst)

    def refill(self, now: int) -> None:
        if now < self.at:
            # What is known is when it will be full, by the former clock: no later than an empty bucket would be.
            full_at = self.at + (self.burst - self.tokens) * self.interval
            self.tokens = self.burst - min(Fraction(self.burst), (full_at - now) / Fraction(self.interval))
        else:
            self.tokens = min(Fraction(self.burst), self.tokens + Fraction(now - self.at, self.interval))
        self.at = now

    def wait_us(self, now: int) -> Fraction:
        """Until there is a token. To ask changes nothing, unless the clock went back: whoever takes nothing leaves no trace of when."""
        asked = self if now < self.at else copy(self)
        asked.refill(now)
        return max(Fraction(0), (1 - asked.tokens) * self.interval)


@dataclass
class Model:
    """What admission should know: buckets, leases until when, units that PostgreSQL was told and those that it was not."""

    keys: dict[str, Bucket] = field(default_factory=dict)
    tenant: Bucket = field(default_factory=lambda: Bucket(interval_us(TENANT_RPS), TENANT_BURST))
    leases: dict[Lease, int] = field(default_factory=dict)
    plain: int = 0
    written: int = 0  # of the plain ones, what PostgreSQL was told
    runs: int = 0
    before: int = 0  # units of the month on other days


class Admissions(RuleBasedStateMachine):
    """One tenant with two keys. The clock is the test's."""

    servers: Servers

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = Redis(self.servers.settings.stores, budget_s=10)
        rates = self.servers.with_env(RL_REDIS_PREFIX=new_id("test")).rates
        self.clock = f"{rates.rl_redis_prefix}:clock"
        with pytest.MonkeyPatch.context() as patch:
            ours = f"local now = tonumber(redis.call('GET', '{self.clock}'))\n"
            for name, text in list(vars(scripts).items()):
                if name.isupper() and not name.startswith("_"):
                    # Keys that outlive their use change nothing, and would go by the server's clock.
                    patch.setattr(scripts, name, text.replace(scripts._CLOCK, ours).replace(_LIFE, ""))
            self.store = Store(self.redis, rates)
        self.tenant = new_id("t").replace("_", "-")
        self.now = 1_700_000_000_000_000
        self.model = Model()

    def do(self, command: Any) -> Any:
        return self.runner.run(command)

    def teardown(self) -> None:
        self.do(self.redis.close())
        self.runner.close()

    @initialize(plain=st.integers(0, 30), runs=st.integers(0, 9), before=st.integers(0, 30))
    def begin(self, plain: int, runs: int, before: int) -> None:
        self.model.plain, self.model.written, self.model.runs, self.model.before = plain, plain, runs, before
        self.tick(0)
        self.load()

    def load(self) -> None:
        model = self.model
        self.do(self.store.load(self.tenant, DAY, (model.written, model.written + model.before), (model.runs, model.runs)))

    @rule(us=st.one_of(st.integers(0, 400_000), st.integers(0, 2 * LEASE_S * 1_000_000), st.integers(-3_600_000_000, 0)))
    def tick(self, us: int) -> None:
        self.now += us
        self.do(self.redis.client.set(self.clock, self.now))

    @rule(
        key=st.sampled_from("ab"),
        units=st.sampled_from([0, 1, 1, 1, 3]),
        run=st.booleans(),
        day_limit=st.one_of(st.none(), st.integers(0, 60)),
        month_limit=st.one_of(st.none(), st.integers(0, 90)),
        rates=st.booleans(),
        most=st.sampled_from([0, PLACES, PLACES, 9, 18]),
    )
    def ask(self, key: str, units: int, run: bool, day_limit: int | None, month_limit: int | None, rates: bool, most: int) -> None:
        lease = Lease.new(self.tenant, DAY, units, run=run)
        decision = self.do(
            self.store.admit(
                lease,
                buckets=(f"{self.tenant}:{key}", self.tenant),
                rates=(KEY_RPS, KEY_BURST, TENANT_RPS, TENANT_BURST) if rates else None,
                most=most,
                limits=(day_limit, month_limit),
                must_know=True,
            )
        )
        assert decision is not None
        refused_by, wait_us, place, over = self.expected(lease, key, (day_limit, month_limit), rates, most)
        assert (decision.refused_by, decision.over) == (refused_by, over)
        if rates and not refused_by:
            own, tenant = ((1 - bucket.tokens) * bucket.interval for bucket in (self.model.keys[key], self.model.tenant))
            wait_us = max(0, own, tenant)
            assert decision.emptied == (0 if wait_us <= 0 else 1 if own >= tenant else 2)
        assert decision.wait_ms == -(-wait_us // 1000)
        assert decision.leased is (place and not refused_by)
        if lease in self.model.leases:
            assert decision.scarce is (most > 0 and most - len(self.model.leases) < max(8, most / 2))
        gone = TENANT_BURST - (self.model.tenant.tokens + 1) if rates and not refused_by else 0
        assert decision.ahead == (1000 * gone // TENANT_BURST if gone > 4 else 0)
        used = self.model.plain + self.model.runs
        assert (decision.day_used, decision.month_used) == (used, used + self.model.before)

    def expected(self, lease: Lease, key: str, limits: tuple[int | None, int | None], rates: bool, most: int) -> tuple[int, int, bool, int]:
        model = self.model
        for held, until in list(model.leases.items()):
            if until <= self.now:
                del model.leases[held]
                model.plain -= held.units if held.field == "p" else 0
        if rates:
            own = model.keys.setdefault(key, Bucket(interval_us(KEY_RPS), KEY_BURST))
            waits = [bucket.wait_us(self.now) for bucket in (own, model.tenant)]
            if max(waits) > 0:
                return (1 if waits[0] >= waits[1] else 2), int(-(-max(waits) // 1)), False, 0
            for bucket in (own, model.tenant):
                bucket.refill(self.now)
                bucket.tokens -= 1
        used = model.plain + model.runs
        over = 0
        for number, (limit, so_far) in enumerate(zip(limits, (used, used + model.before), strict=True), 1):
            if not over and lease.units and limit is not None and so_far + lease.units > limit:
                over = number
        place = not most or len(model.leases) < most
        if place and not over:
            model.leases[lease] = self.now + LEASE_S * 1_000_000
            model.plain += lease.units if lease.field == "p" else 0
            model.runs += lease.units if lease.field == "r" else 0
        return 0, 0, place, over

    @rule(which=st.integers(0, 9), give_back=st.booleans(), times=st.integers(1, 2))
    def end(self, which: int, give_back: bool, times: int) -> None:
        if not self.model.leases:
            return
        lease = list(self.model.leases)[which % len(self.model.leases)]
        for _ in range(times):
            self.do(self.store.release(lease, give_back=give_back))
        del self.model.leases[lease]
        if give_back:
            self.model.plain -= lease.units if lease.field == "p" else 0
            self.model.runs -= lease.units if lease.field == "r" else 0

    @rule()
    def renew(self) -> None:
        self.do(self.store.renew(list(self.model.leases)))
        for lease in self.model.leases:
            self.model.leases[lease] = self.now + LEASE_S * 1_000_000

    @rule()
    def lose(self) -> None:
        """Everything of this test is forgotten; the ledger has runs, and the process its leases and the plain units."""

        async def forget() -> None:
            async for key in self.redis.client.scan_iter(f"{self.store._prefix}:*"):
                if key.decode() != self.clock:
                    await self.redis.client.delete(key)

        self.do(forget())
        self.model.keys.clear()
        self.model.tenant = Bucket(interval_us(TENANT_RPS), TENANT_BURST)
        assert self.do(self.store.runs(self.tenant, DAY)) == (-1, -1)
        self.load()
        self.renew()
        # What the process was told last is not lost; what was given back after PostgreSQL was told of it is counted again.
        self.model.plain = max(self.model.plain, self.model.written)

    @rule()
    def write(self) -> None:
        counts = self.do(self.store.unwritten(10))
        assert set(counts.values()) <= {self.model.plain}
        self.do(self.store.written(counts))
        self.model.written = self.model.plain
        assert self.do(self.store.unwritten(10)) == {}

    @rule()
    def compare(self) -> None:
        """The ledger takes over only while no run is under way."""
        seen = self.do(self.store.runs(self.tenant, DAY))
        running = any(lease.field == "r" for lease in self.model.leases)
        assert seen == ((-1, -1) if running else (self.model.runs, self.model.runs))
        if not running:
            held = max(0, self.model.runs - 1)
            assert self.do(self.store.agree(self.tenant, DAY, seen, (held, held)))
            assert not self.do(self.store.agree(self.tenant, DAY, (seen[0] + 5, seen[1]), (0, 0)))
            self.model.runs = held


@pytest.fixture
def machine(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Admissions]]:
    assert _LIFE in scripts._BUCKET
    monkeypatch.setattr(store, "_EPOCH_MS", 86_400_000)
    monkeypatch.setattr(store, "_REMEMBERED_S", 86_400)
    yield type("OnOurServers", (Admissions,), {"servers": servers})


@pytest.mark.slow
def test_admission_decides_as_the_model_does(machine: type[Admissions]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
    )
