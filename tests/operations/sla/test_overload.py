"""A process that cannot keep up: how many it takes, in which order it refuses, whom it never refuses, and that refusing is cheap."""

import asyncio
from time import perf_counter

import pytest

from nexusrag.infra.database import Database
from nexusrag.kernel.actions import Role
from nexusrag.kernel.features import PlanId
from nexusrag.kernel.principal import of_role
from nexusrag.kernel.traffic import RouteClass
from nexusrag.operations.sla.overload import Overload, rank_of
from nexusrag.settings.sla import SlaSettings
from tests.support.api import Api, error_of
from tests.support.installation import Servers

LATE, IN_TIME = 10.0, 0.0


def overload(**settings: int) -> Overload:
    return Overload(SlaSettings.model_validate(settings))


def learn(held: Overload, delay: float, times: int, since: int = 0) -> None:
    """So many looks, a tenth of a second each."""
    for look in range(since, since + times):
        held.learn(delay, look / 10)


def test_the_least_plan_goes_first_and_within_it_reads() -> None:
    ranks = [
        rank_of(of_role("t", "u", Role.READER, "k", plan=plan), route_class)
        for plan in (PlanId.FREE, PlanId.PRO, PlanId.ENTERPRISE)
        for route_class in (RouteClass.READ, RouteClass.MUTATION, RouteClass.RUN)
    ]
    assert ranks == list(range(9))
    full = overload()
    shares = [full.share(rank) for rank in ranks]
    assert shares == sorted(shares)
    assert shares[0] > full.limit / 2
    assert shares[-1] == full.limit


def test_a_standing_delay_takes_places_away_down_to_the_least_and_quiet_gives_them_back() -> None:
    pressed = overload(overload_least_in_flight=8)
    for _ in range(100):
        pressed.enter()
    learn(pressed, LATE, 11)
    assert pressed.limit == 50  # by what there was, not by what could have been
    learn(pressed, LATE, 50, since=11)
    assert pressed.limit == 8
    learn(pressed, IN_TIME, 200)
    assert pressed.limit == 10_000


def test_a_burst_is_no_overload() -> None:
    burst = overload()
    for _ in range(1000):
        burst.enter()
    for second in range(20):
        learn(burst, LATE, 9, since=10 * second)
        learn(burst, IN_TIME, 1, since=10 * second + 9)
    assert burst.limit == 10_000


async def test_a_loop_that_is_held_up_is_noticed() -> None:
    watched = overload()
    watched.start()
    try:
        watched.enter()
        async with asyncio.timeout(10):
            while watched.limit > 1000:
                end = perf_counter() + 0.05
                while perf_counter() < end:
                    pass
                await asyncio.sleep(0)
        assert watched.limit == watched._least
    finally:
        await watched.close()


async def test_a_database_that_everybody_waits_for_is_noticed() -> None:
    watched = Overload(SlaSettings(), lambda: 0.2)
    watched.start()
    try:
        watched.enter()
        async with asyncio.timeout(10):
            while watched.limit > 1000:
                await asyncio.sleep(0.05)
    finally:
        await watched.close()


async def test_only_a_wait_that_all_had_is_a_standing_one(servers: Servers) -> None:
    database = Database(servers.settings.stores, pool_size=1)
    try:

        async def ask(seconds: float) -> None:
            async with database.work(None) as work:
                await work.raw.execute("select pg_sleep($1)", seconds)

        await asyncio.gather(*(ask(0.05) for _ in range(3)))
        assert database.least_wait_s() == 0  # the first one did not wait
        holding = asyncio.create_task(ask(0.2))
        await asyncio.sleep(0.05)
        database.least_wait_s()
        await asyncio.gather(holding, ask(0), ask(0))
        assert database.least_wait_s() > 0.05
        assert database.least_wait_s() == 0  # since then nobody
    finally:
        await database.close()


@pytest.mark.parametrize("role", ["reader", "editor"])
async def test_a_pressed_process_refuses_callers_it_knows_and_never_admins(api: Api, role: str) -> None:
    admin = await api.person()
    person = await api.person(role, admin.tenant)
    assert [(await one.get("/v1/corpora")).status_code for one in (admin, person)] == [200, 200]
    held = api.resources.get(Overload)
    before = held.limit
    held.limit, held.in_flight = 8, held.in_flight + 1000
    try:
        answer = await person.get("/v1/corpora")
        assert error_of(answer) == ("SLA_SHED_LOAD", 503)
        assert (answer.headers["Retry-After"], answer.json()["error"]["details"]) == ("1", {"reason": "overload"})
        assert (await person.post("/v1/run", json={})).status_code == 503
        legacy = await person.get("/corpora")
        assert (legacy.status_code, legacy.json()["detail"]["code"]) == (503, "SLA_SHED_LOAD")
        assert (await admin.get("/v1/corpora")).status_code == 200
        assert (await admin.get("/v1/ops/health")).status_code == 200
        assert (await api.anonymous().get("/v1/health")).status_code == 200
        assert (await api.anonymous().get("/v1/corpora")).status_code == 401
    finally:
        held.limit, held.in_flight = before, held.in_flight - 1000
    assert (await person.get("/v1/corpora")).status_code == 200


async def test_every_request_leaves_its_place(api: Api) -> None:
    admin = await api.person()
    corpus = await admin.corpus()
    await admin.text(corpus, "Words.")
    held = api.resources.get(Overload)
    before = held.in_flight
    await admin.run(corpus, "Which words?")
    assert (await admin.get("/v1/corpora/none")).status_code == 404
    assert (await admin.get("/nowhere")).status_code == 404
    assert held.in_flight == before
