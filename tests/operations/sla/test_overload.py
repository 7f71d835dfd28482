"""A process that cannot keep up: how many it takes, in which order it refuses, whom it never refuses, and that refusing is cheap."""

import asyncio
import contextlib
from time import perf_counter
from urllib.parse import urlsplit

import pytest
from starlette.types import Message, Receive, Scope, Send

from nexusrag.infra.database import Database
from nexusrag.infra.turns import TURN_KEY, Turn, Turns
from nexusrag.kernel.actions import Role
from nexusrag.kernel.features import PlanId
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.principal import of_role
from nexusrag.kernel.traffic import RouteClass
from nexusrag.operations.sla.overload import Overload, OverloadGuard, rank_of
from nexusrag.settings.sla import SlaSettings
from tests.support.api import Api, error_of
from tests.support.installation import Servers

LATE, IN_TIME = 10.0, 0.0


def overload(**settings: int) -> Overload:
    return Overload(SlaSettings.model_validate(settings))


def learn(held: Overload, delay: float, times: int) -> None:
    """So many looks, a tenth of a second each."""
    for _ in range(times):
        held.learn(delay)


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
    learn(pressed, 2.0, 5)
    assert pressed.limit == 50  # by what there was, not by what could have been
    learn(pressed, LATE, 50)
    assert pressed.limit == 8
    learn(pressed, IN_TIME, 200)
    assert pressed.limit == 10_000


def test_a_loop_that_is_late_for_a_moment_is_late_and_a_single_long_step_is_not() -> None:
    held = overload(overload_lag_ms=20)
    held.note_lag(0.09)
    assert not held.is_late
    for _ in range(5):
        held.note_lag(0.04)
    assert held.is_late
    for _ in range(5):
        held.note_lag(0.0)
    assert not held.is_late


async def test_who_waits_for_its_turn_takes_nobodys_place() -> None:
    pressed = overload()
    pressed.limit = 2.0
    for _ in range(2):
        pressed.enter()
    assert not pressed.admits("t", 8)
    pressed.turns._beginning.append(Turn())
    assert pressed.at_work == 1 and pressed.admits("t", 8)


def test_a_burst_is_no_overload() -> None:
    burst = overload()
    for _ in range(1000):
        burst.enter()
    for _ in range(20):
        learn(burst, 1.1, 9)
        learn(burst, IN_TIME, 1)
    assert burst.limit == 10_000


def test_what_is_far_too_much_is_not_waited_out() -> None:
    flooded = overload()
    for _ in range(1000):
        flooded.enter()
    learn(flooded, LATE, 1)
    assert flooded.limit == 250


def test_near_its_bound_the_limit_hardly_moves() -> None:
    held = overload()
    held.limit = 100
    for _ in range(100):
        held.enter()
    learn(held, 0.9, 1)
    assert 100 < held.limit < 101
    learn(held, 1.05, 1)
    assert 89 < held.limit < 91


BUSY, IDLE = 0.9, 0.3


def refusing(held: Overload, looks: int, tenant_id: str = "t") -> float:
    """What is allowed after so many looks in each of which four of five were refused."""
    held.limit = 10
    for _ in range(looks):
        for _ in range(10):
            held.enter()
        assert not any(held.admits(tenant_id, 8) for _ in range(40))
        for _ in range(10):
            held.leave()
        allowed = held.allowed(BUSY)
    return allowed


def test_the_more_is_refused_the_less_waits_within() -> None:
    held = overload()
    assert held.allowed(BUSY) == 1
    assert 0.19 < refusing(held, 20) < 0.21
    held.in_flight = 10
    for _ in range(20):
        held.admits("t", 8)
        allowed = held.allowed(BUSY)
    assert allowed == 0.1


def test_a_process_that_is_not_busy_is_late_for_other_reasons() -> None:
    held = overload()
    refusing(held, 20)
    assert held.allowed(IDLE) == 1


def test_once_nobody_asks_what_was_refused_is_forgotten() -> None:
    held = overload()
    refusing(held, 20)
    for _ in range(20):
        allowed = held.allowed(BUSY)
    assert allowed > 0.99


def test_tenants_that_share_all_places_are_what_the_process_cannot_do() -> None:
    held = overload()
    held.limit = 10
    for tenant_id in ("one", "other"):
        held.admits(tenant_id, 8)
    for _ in range(5):
        held.enter("one")
        held.enter("other")
    for _ in range(20):
        assert not any(held.admits(tenant_id, 8) for tenant_id in ("one", "other") * 20)
        allowed = held.allowed(BUSY)
    assert allowed == 0.1


def test_what_a_tenant_asks_beyond_its_part_is_not_what_the_process_cannot_do() -> None:
    held = overload()
    held.limit = 10
    held.admits("quiet", 8)
    for _ in range(5):
        held.enter("flooding")
    for _ in range(20):
        assert not any(held.admits("flooding", 8) for _ in range(40))
        allowed = held.allowed(BUSY)
    assert allowed == 1


def test_a_tenant_that_floods_leaves_the_others_their_part() -> None:
    held, runs = overload(), 8
    held.limit = 12
    for _ in range(100):  # alone it may have everything
        if held.admits("flooding", runs):
            held.enter("flooding")
    assert held.in_flight == 12
    assert not held.admits("quiet", runs)  # and is asked for its places from here on
    for _ in range(4):
        held.leave("flooding")
    assert not held.admits("flooding", runs)
    assert held.admits("quiet", runs)
    held.enter("quiet")
    for _ in range(3):
        held.leave("flooding")
    assert held.admits("flooding", runs)  # 5 of 12, between two
    held.leave("quiet")
    held._asking.pop("quiet")  # has not come again
    for _ in range(7):
        assert held.admits("flooding", runs)
        held.enter("flooding")


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

        async def ask() -> None:
            async with database.work(None):
                await asyncio.sleep(0.01)

        await asyncio.gather(*(ask() for _ in range(3)))
        assert database.pool.least_wait_s() == 0  # the first one did not wait
        async with database.work(None):
            database.pool.least_wait_s()
            waiting = [asyncio.create_task(ask()) for _ in range(2)]
            await asyncio.sleep(0.1)
        await asyncio.gather(*waiting)
        assert database.pool.least_wait_s() > 0.05
        assert database.pool.least_wait_s() == 0  # since then nobody
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
        assert (await person.get("/v1/corpora", headers={"X-Request-Id": "mine"})).json()["meta"]["request_id"] == "mine"
        assert (await person.client.head("/v1/corpora")).status_code == 503
        legacy = await person.get("/corpora")
        assert (legacy.status_code, legacy.json()["detail"]["code"]) == (503, "SLA_SHED_LOAD")
        assert (await admin.get("/v1/corpora")).status_code == 200
        assert (await admin.get("/v1/ops/health")).status_code == 200
        assert (await api.anonymous().get("/v1/health")).status_code == 200
        assert (await person.get("/v1/health")).status_code == 200
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


async def test_a_refused_caller_keeps_its_connection(api: Api) -> None:
    admin = await api.person()
    person = await api.person("editor", admin.tenant)
    assert [(await one.get("/v1/corpora")).status_code for one in (admin, person)] == [200, 200]
    held = api.resources.get(Overload)
    before = held.limit
    url = urlsplit(api.base_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)

    async def ask(head: str, body: bytes = b"", key: str = person.key) -> tuple[int, bytes]:
        credential = f"Authorization: Bearer {key}"
        writer.write(f"{head} HTTP/1.1\r\nHost: here\r\n{credential}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        answered = await reader.readuntil(b"\r\n\r\n")
        writer.write(body)  # after the answer, as of a client that sends head and body apart
        length = int(answered.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return int(answered.split(b" ")[1]), await reader.readexactly(length)

    held.limit, held.in_flight = 8, held.in_flight + 1000
    try:
        async with asyncio.timeout(10):
            assert (await ask("POST /v1/corpora", b"{}"))[0] == 503
            assert (await ask("GET /v1/corpora"))[0] == 503
            assert (await ask("GET /v1/corpora", key=admin.key))[0] == 200  # who else comes on it counts as who they are
            assert (await ask("GET /v1/corpora"))[0] == 503
            held.limit, held.in_flight = before, held.in_flight - 1000
            assert (await ask("GET /v1/corpora"))[0] == 200
    finally:
        held.limit = before
        writer.close()


class FailedError(Exception):
    """What an application raises."""


@pytest.mark.parametrize("ahead", [0, 500])
@pytest.mark.parametrize(("path", "messages", "ends"), [
    ("/v1/corpora", 2, None), ("/v1/run", 2, None), ("/v1/run", 5, None), ("/v1/corpora", 0, FailedError()), ("/v1/run", 5, FailedError()),
    ("/v1/run", 1, asyncio.CancelledError()),
])  # fmt: skip
async def test_a_turn_ends_however_the_request_does(api: Api, path: str, messages: int, ends: BaseException | None, ahead: int) -> None:
    turns, tenant = api.resources.get(Turns), new_id("t")

    def under_way() -> int:
        return turns._orderly[tenant] + turns._ahead

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await turns.begin(scope[TURN_KEY], tenant, ahead)
        assert under_way() == 1
        for number in range(messages):
            await send({"type": "http.response.body" if number else "http.response.start"})
        if ends is not None:
            raise ends

    async def nowhere(_: Message) -> None:
        pass

    with contextlib.suppress(FailedError, asyncio.CancelledError):
        await OverloadGuard(app)({"type": "http", "method": "POST", "path": path, "headers": [], "app": api.app}, nowhere, nowhere)
    assert under_way() == 0


async def test_a_run_is_under_way_until_its_model_speaks(api: Api) -> None:
    """Its first part is work as any other; while it waits for a model, nobody waits for it."""
    held = api.resources.get(Overload)
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            seen.append(held.in_flight)
            await send({"type": "http.response.body", "body": b"", "more_body": True})

    async def nowhere(_: Message) -> None:
        pass

    before = held.in_flight
    for path in ("/v1/run", "/v1/runs/run_1/events"):
        await OverloadGuard(app)({"type": "http", "method": "POST", "path": path, "headers": [], "app": api.app}, nowhere, nowhere)
    assert seen == [before + 1, before + 1, before, before, before, before]
    assert held.in_flight == before
