"""Any sequence of reservations, settlements, charges, expiries, replays and crashes leaves counters that are the sum of the entries."""

import asyncio
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from nexusrag.billing.ledger.expiry import settle_expired
from nexusrag.billing.ledger.facade import Caps, charge, reserve, settle
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel.ids import new_id
from tests.billing.ledger.support import NOON, SUMS, entries, line, new_tenant, opened, reservation, sums
from tests.support.installation import Servers

SUBJECTS = st.sampled_from([f"subject-{number}" for number in range(3)])  # few, so that much happens to each
DAYS = st.sampled_from([NOON, NOON + timedelta(days=1), NOON + timedelta(days=40)])  # the month ends after the first
TOKENS = st.integers(0, 3000)
DOLLARS = st.decimals("0", "3", places=12)
CRASHES = st.sampled_from([False] * 7 + [True])


class Crash(Exception):
    """The process dies before it commits."""


@dataclass
class Entry:
    """What the naive model knows of a subject."""

    state: str
    day: date
    units: int
    held_tokens: int
    held_usd: Decimal
    tokens: int = 0
    usd: Decimal = Decimal(0)
    estimated: bool = False


class Ledger(RuleBasedStateMachine):
    servers: Servers
    database: Database
    runner: asyncio.Runner

    @initialize(units=st.integers(5, 30), tokens=st.integers(500, 9000), dollars=st.integers(1, 9), hard=st.booleans())
    def begin(self, units: int, tokens: int, dollars: int, hard: bool) -> None:
        self.tenant = self.runner.run(new_tenant(self.servers))
        self.caps = Caps(day_units=units, month_units=2 * units, month_tokens=tokens, month_usd=Decimal(dollars), hard=hard)
        self.model: dict[str, Entry] = {}

    @rule(subject=SUBJECTS, units=st.integers(0, 9), tokens=TOKENS, usd=DOLLARS, at=DAYS, crashes=CRASHES)
    def reserves(self, subject: str, units: int, tokens: int, usd: Decimal, at: Any, crashes: bool) -> None:
        asked = reservation(subject, units, tokens, str(usd), lasts_s=10**9)
        verdict = self._do(lambda work: reserve(work, asked, self.caps, at), crashes)
        if subject in self.model:
            assert crashes or verdict.state == "repeated"
            return
        beyond = self._beyond(at.date(), units, tokens, usd)
        refused = bool(beyond) and (self.caps.hard or "usd" in beyond)
        if not crashes:
            assert verdict.state == ("refused" if refused else "held")
            assert (verdict.cause in beyond) if beyond else (verdict.cause is None)
            if not refused:
                self.model[subject] = Entry("held", at.date(), units, tokens, usd)

    @rule(subject=SUBJECTS, tokens=TOKENS, usd=DOLLARS, estimated=st.booleans(), crashes=CRASHES)
    def settles(self, subject: str, tokens: int, usd: Decimal, estimated: bool, crashes: bool) -> None:
        lines = [line(str(usd), estimated=estimated), line("0.000000000001", "embedding")]
        settled = self._do(lambda work: settle(work, subject, lines, tokens=tokens, estimated=estimated), crashes)
        entry = self.model.get(subject)
        corrects = entry is not None and (entry.state != "settled" or (entry.estimated and not estimated))
        if crashes:
            return
        assert settled == corrects
        if entry is not None and corrects:
            entry.state, entry.tokens, entry.usd, entry.estimated = "settled", tokens, usd + Decimal("0.000000000001"), estimated

    @rule(subject=SUBJECTS, tokens=TOKENS, usd=DOLLARS, at=DAYS, crashes=CRASHES)
    def charges(self, subject: str, tokens: int, usd: Decimal, at: Any, crashes: bool) -> None:
        charged = self._do(lambda work: charge(work, subject, "mutation", [line(str(usd))], tokens=tokens, at=at), crashes)
        if crashes:
            return
        assert charged == (subject not in self.model)
        if charged:
            self.model[subject] = Entry("settled", at.date(), 0, 0, Decimal(0), tokens, usd)

    @rule(subject=SUBJECTS)
    def is_forgotten_and_expires(self, subject: str) -> None:
        self.runner.run(self._expire(subject))
        entry = self.model.get(subject)
        if entry is not None and entry.state == "held":
            entry.state, entry.tokens, entry.usd, entry.estimated = "expired", entry.held_tokens, entry.held_usd, True

    @invariant()
    def the_counters_are_the_sum_of_the_entries_and_both_are_the_models(self) -> None:
        expected = self._expected()
        assert self.runner.run(sums(self.servers, self.tenant)) == expected
        assert self.runner.run(entries(self.servers, self.tenant)) == expected

    def _do(self, act: Any, crashes: bool) -> Any:
        async def attempt() -> Any:
            try:
                async with self.database.work(self.tenant) as work:
                    result = await act(work)
                    if crashes:
                        raise Crash
                    return result
            except Crash:
                return None

        return self.runner.run(attempt())

    async def _expire(self, subject: str) -> None:
        admin = await self.servers.admin()
        try:
            await admin.execute(
                "update ledger set expires_at = now() - interval '1 second' where tenant_id = $1 and subject = $2", self.tenant, subject
            )
        finally:
            await admin.close()
        resources = Resources()
        resources.put(Database, self.database)
        await settle_expired(resources)

    def _expected(self) -> dict[tuple[str, date], tuple[Any, ...]]:
        found: dict[tuple[str, date], list[Any]] = {}
        for entry in self.model.values():
            held = entry.state == "held"
            values = (
                0 if held else entry.units, entry.units if held else 0, entry.tokens, entry.held_tokens if held else 0,
                entry.usd, entry.held_usd if held else Decimal(0),
            )  # fmt: skip
            for key in (("day", entry.day), ("month", entry.day.replace(day=1))):
                found[key] = [old + new for old, new in zip(found.get(key, [0] * len(SUMS)), values, strict=True)]
        return {key: tuple(values) for key, values in found.items() if any(values)}

    def _beyond(self, day: date, units: int, tokens: int, usd: Decimal) -> set[str]:
        nothing = (0,) * len(SUMS)
        expected = self._expected()
        in_day, in_month = expected.get(("day", day), nothing), expected.get(("month", day.replace(day=1)), nothing)
        caps, found = self.caps, set()
        for cause, asked, limit, used in (
            ("units", units, caps.day_units, in_day[0] + in_day[1]),
            ("units", units, caps.month_units, in_month[0] + in_month[1]),
            ("tokens", tokens, caps.month_tokens, in_month[2] + in_month[3]),
            ("usd", usd, caps.month_usd, in_month[4] + in_month[5]),
        ):
            if asked and limit is not None and used + asked > limit:
                found.add(cause)
        return found


def test_whatever_happens_the_counters_are_the_sum_of_the_entries(servers: Servers) -> None:
    with asyncio.Runner() as runner:
        context = opened(servers)
        database = runner.run(context.__aenter__())
        try:
            kept = {"servers": servers, "database": database, "runner": runner}
            machine = type("LedgerOf" + new_id("x"), (Ledger,), kept)
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=40,
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    derandomize=True,
                    phases=(Phase.generate,),  # a failure is told as it was found: to make it smaller takes minutes of a real database
                ),
            )
        finally:
            runner.run(context.__aexit__(None, None, None))
