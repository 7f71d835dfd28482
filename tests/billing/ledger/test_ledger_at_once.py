"""Many at once, over many connections: no cap is overrun by anything, nobody waits for nobody, and the sums hold."""

import asyncio
from decimal import Decimal
from random import Random
from typing import Any

from nexusrag.billing.ledger.facade import (
    Caps,
    Plain,
    charge,
    count_directly,
    figures,
    flush_plain,
    note_once,
    reserve,
    settle,
)
from nexusrag.infra.database import Database
from nexusrag.kernel import clock
from tests.billing.ledger.support import entries, line, new_tenant, opened, reservation, sums
from tests.support.installation import Servers


async def test_a_hard_cap_is_overrun_by_nothing(servers: Servers) -> None:
    tenant = await new_tenant(servers)
    caps = Caps(day_units=100, month_units=1000)

    async def attempt(database: Database, number: int) -> str:
        async with database.work(tenant) as work:
            return (await reserve(work, reservation(f"run-{number}"), caps)).state

    # Two pools are two processes, as far as PostgreSQL can tell.
    async with opened(servers, 12) as one, opened(servers, 12) as other:
        states = await asyncio.gather(*(attempt(one if number % 2 else other, number) for number in range(200)))
    assert (states.count("held"), states.count("refused")) == (33, 167), "33 times 3 units fit into 100"
    assert (await entries(servers, tenant)) == (await sums(servers, tenant))
    assert all(sum(values[:2]) == 99 for values in (await sums(servers, tenant)).values())


async def test_neither_are_tokens_nor_dollars(servers: Servers) -> None:
    for caps, held in ((Caps(month_tokens=10_500), 10), (Caps(month_usd=Decimal("7.5"), hard=False), 7)):
        tenant = await new_tenant(servers)

        async def attempt(database: Database, number: int, tenant: str = tenant, caps: Caps = caps) -> str:
            async with database.work(tenant) as work:
                return (await reserve(work, reservation(f"run-{number}"), caps)).state

        async with opened(servers, 12) as database:
            states = await asyncio.gather(*(attempt(database, number) for number in range(60)))
        assert states.count("held") == held, "the cap of dollars is hard whatever the quota says"


async def test_plain_units_are_exact_without_redis(servers: Servers) -> None:
    tenant = await new_tenant(servers)

    async def attempt(database: Database) -> str:
        async with database.work(tenant) as work:
            return (await count_directly(work, 1, Caps(day_units=37))).state

    async with opened(servers, 12) as database:
        states = await asyncio.gather(*(attempt(database) for _ in range(120)))
        async with database.work(tenant) as work:
            used = await figures(work)
    assert states.count("held") == 37
    assert (used.day.units, used.month.units, used.day.direct_units) == (37, 37, 37)


async def test_one_subject_is_reserved_settled_and_charged_once(servers: Servers) -> None:
    tenant = await new_tenant(servers)

    async def reserves(database: Database) -> str:
        async with database.work(tenant) as work:
            return (await reserve(work, reservation("run"), Caps())).state

    async def settles(database: Database) -> bool:
        async with database.work(tenant) as work:
            return await settle(work, "run", [line()], tokens=10, estimated=False)

    async def charges(database: Database) -> bool:
        async with database.work(tenant) as work:
            return await charge(work, "job", "mutation", [line()])

    async with opened(servers, 12) as database:
        assert sorted(await asyncio.gather(*(reserves(database) for _ in range(12)))) == ["held", *["repeated"] * 11]
        assert (await asyncio.gather(*(settles(database) for _ in range(12)))).count(True) == 1
        assert (await asyncio.gather(*(charges(database) for _ in range(12)))).count(True) == 1
    assert (await entries(servers, tenant)) == (await sums(servers, tenant))


async def test_those_who_lock_never_wait_for_each_other_in_a_circle(servers: Servers) -> None:
    """Everybody who writes usage, mixed. A deadlock would raise."""
    tenants = [await new_tenant(servers) for _ in range(2)]
    random = Random(1)
    today = clock.now().date()

    async def act(database: Database, number: int) -> Any:
        tenant, subject = random.choice(tenants), f"subject-{random.randrange(40)}"
        match number % 7:
            case 0:
                async with database.work(None) as work:
                    return await flush_plain(work, [Plain(one, today, number) for one in random.sample(tenants, 2)])
            case 1:
                async with database.work(tenant) as work:
                    return await note_once(work, "soft_cap", random.choice(("day", "month")))
            case 2:
                async with database.work(tenant) as work:
                    return await count_directly(work, 1, Caps())
            case 3:
                async with database.work(tenant) as work:
                    return await charge(work, subject, "mutation", [line()])
            case 4:
                async with database.work(tenant) as work:
                    return await settle(work, subject, [line()], tokens=5, estimated=random.random() < 0.5)
            case _:
                async with database.work(tenant) as work:
                    return await reserve(work, reservation(subject), Caps())

    async with opened(servers, 16) as database:
        await asyncio.gather(*(act(database, number) for number in range(700)))
    for tenant in tenants:
        assert (await entries(servers, tenant)) == (await sums(servers, tenant))
