"""What the ledger does with one entry after the other."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest

from nexusrag.billing.ledger.facade import (
    Caps,
    Plain,
    charge,
    count_directly,
    entry,
    estimates,
    figures,
    flush_plain,
    give_back_directly,
    note_once,
    prune,
    reserve,
    settle,
)
from nexusrag.kernel import clock
from tests.billing.ledger.support import NOON, line, new_tenant, opened, reservation, sums
from tests.support.installation import Servers

LAST_OF_FEBRUARY = datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)


async def test_a_refusal_takes_nothing_and_says_what_is_in_the_way(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    async with opened(servers) as database, database.work(tenant) as work:
        first = await reserve(work, reservation("first"), Caps(month_units=5), NOON)
        assert (first.state, first.cause, first.figures.month.units, first.figures.day.tokens) == ("held", None, 3, 1000)
        second = await reserve(work, reservation("second"), Caps(month_units=5), NOON)
        assert (second.state, second.cause, second.period, second.limit, second.used) == ("refused", "units", "month", 5, 3)
        assert second.figures.month.units == 3, "three of five are left with two: the run's three do not fit"
        assert (await entry(work, "second")) is None
        third = await reserve(work, reservation("third", units=2), Caps(month_units=5), NOON)
        assert third.state == "held"


async def test_a_cap_that_observes_says_what_it_would_have_refused(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    async with opened(servers) as database, database.work(tenant) as work:
        verdict = await reserve(work, reservation("run"), Caps(day_units=2, hard=False), NOON)
        assert (verdict.state, verdict.cause, verdict.period, verdict.limit, verdict.used) == ("held", "units", "day", 2, 0)


async def test_units_that_redis_decided_are_not_decided_again(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    async with opened(servers) as database, database.work(tenant) as work:
        assert (await reserve(work, reservation("run"), Caps(day_units=2, counted=True), NOON)).state == "held"


async def test_a_run_over_midnight_counts_for_the_day_and_month_in_which_it_was_accepted(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    async with opened(servers) as database, database.work(tenant) as work:
        await reserve(work, reservation("late"), Caps(), LAST_OF_FEBRUARY)
        verdict = await reserve(work, reservation("early"), Caps(day_units=3), LAST_OF_FEBRUARY + timedelta(seconds=1))
        assert (verdict.state, verdict.figures.day.units, verdict.figures.month.units) == ("held", 3, 3), "a new day and a new month"
        await settle(work, "late", [line("0.5")], tokens=200, estimated=False)
        await settle(work, "early", [], tokens=7, estimated=False)
    assert await sums(servers, tenant) == {
        ("day", date(2028, 2, 29)): (3, 0, 200, 0, Decimal("0.5"), 0),
        ("month", date(2028, 2, 1)): (3, 0, 200, 0, Decimal("0.5"), 0),
        ("day", date(2028, 3, 1)): (3, 0, 7, 0, 0, 0),
        ("month", date(2028, 3, 1)): (3, 0, 7, 0, 0, 0),
    }


async def test_an_estimate_gives_way_to_the_exact_figures_of_its_component_alone(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    async with opened(servers) as database:
        async with database.work(tenant) as work:
            await reserve(work, reservation("run"), Caps())
            await settle(work, "run", [line("0.9", estimated=True), line("0.1", "embedding")], tokens=90, estimated=True)
            assert not await settle(work, "run", [line("9")], tokens=9, estimated=True), "one estimate is as good as another"
        for asked, given in ((timedelta(0), True), (timedelta(minutes=1), False), (timedelta(0), True)):
            async with database.work(None) as work:
                assert ((tenant, "run") in await estimates(work, "run", timedelta(minutes=1), asked, 1000)) is given
        async with database.work(tenant) as work:
            assert await settle(work, "run", [line("0.5")], tokens=50, estimated=False)
            assert not await settle(work, "run", [line("0.4")], tokens=40, estimated=False)
            held = await entry(work, "run")
            assert (held["tokens"], held["usd"], held["estimated"]) == (50, Decimal("0.6"), False)
            used = await figures(work)
            assert (used.month.tokens, used.month.usd) == (50, Decimal("0.6"))
        async with database.work(None) as work:
            assert (tenant, "run") not in await estimates(work, "run", timedelta(minutes=1), timedelta(0), 1000)


async def test_every_digit_of_a_dollar_is_kept(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    async with opened(servers) as database, database.work(tenant) as work:
        for number in range(3):
            await charge(work, f"job-{number}", "mutation", [line("0.000000000001"), line("123456789.123456789012", "tts")])
        assert (await figures(work)).month.usd == Decimal("370370367.370370367039")


async def test_redis_counts_are_written_as_values_and_the_month_follows(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    first, second = date(2026, 3, 1), date(2026, 3, 2)
    async with opened(servers) as database:
        for day, units, month in ((first, 10, 10), (first, 10, 10), (second, 4, 14), (first, 8, 12)):
            async with database.work(None) as work:
                await flush_plain(work, [Plain(tenant, day, units), Plain("t-nobody", day, 5)])
            async with database.work(tenant) as work:
                used = await figures(work, datetime(2026, 3, day.day, tzinfo=UTC))
            assert (used.day.plain_units, used.month.plain_units) == (units, month)


async def test_what_postgresql_counted_alone_can_be_given_back(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    async with opened(servers) as database, database.work(tenant) as work:
        caps = Caps(day_units=2)
        assert [(await count_directly(work, 1, caps)).state for _ in range(3)] == ["held", "held", "refused"]
        await give_back_directly(work, 1)
        assert (await count_directly(work, 1, caps)).state == "held"
        assert (await figures(work)).month.units == 2


async def test_one_is_the_first_in_each_period(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    async with opened(servers) as database, database.work(tenant) as work:
        for period in ("month", "day"):
            for what in ("soft_cap", "overage"):
                assert [await note_once(work, what, period, NOON) for _ in range(3)] == [True, False, False]  # type: ignore[arg-type]
        assert await note_once(work, "soft_cap", "day", NOON + timedelta(days=1))
        assert not await note_once(work, "soft_cap", "month", NOON - timedelta(days=1))


async def test_counters_are_forgotten_when_their_period_has_ended_long_ago(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    today = clock.now()
    async with opened(servers) as database:
        async with database.work(tenant) as work:
            for days in (0, 119, 121, 300):
                await charge(work, f"job-{days}", "mutation", [line()], at=today - timedelta(days=days))
            await reserve(work, reservation("still held"), Caps(), today - timedelta(days=400))
        async with database.work(None) as work:
            assert await prune(work, 120) >= 2
        async with database.work(tenant) as work:
            assert await settle(work, "still held", [], tokens=1, estimated=True), "whatever is held keeps its period"
        async with database.work(None) as work:
            await prune(work, 120)
    left = await sums(servers, tenant)
    assert [key for key in left if key[0] == "day"] and all(
        starts_on >= (today - timedelta(days=120)).date() for period, starts_on in left if period == "day"
    )
    for period, starts_on in left:
        if period == "month":
            assert (starts_on + timedelta(days=31)).replace(day=1) > (today - timedelta(days=120)).date()
    assert ("day", (today - timedelta(days=119)).date()) in left


async def test_nobody_reaches_another_tenants_ledger(servers: Servers) -> None:
    own, other = await new_tenant(servers), await new_tenant(servers)
    async with opened(servers) as database:
        async with database.work(other) as work:
            await reserve(work, reservation("run"), Caps())
        async with database.work(own) as work:
            settled = await work.raw.fetchval("select ledger_settle($1, 'run', 1, false, '[]'::jsonb, false)", other)
            assert settled is False
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.work(own) as work:
                await work.raw.fetchval(
                    "select ledger_charge($1, 'job', 'run', 1, false, '[]'::jsonb, null, null, now())", other
                )  # fmt: skip
