"""Without Redis: admitted or refused as the operator chose, at little cost, on record once, and with quotas kept exactly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import pytest

from nexusrag.billing.admission.facade import Admissions
from nexusrag.billing.admission.upkeep import Upkeep
from nexusrag.infra.redis import Redis
from nexusrag.kernel import clock
from nexusrag.kernel.ids import new_id
from nexusrag.web.route import GatedRoute
from tests.billing.admission.conftest import limit, limited_by, used
from tests.support.api import Api, error_of
from tests.support.behind import Held, count, rows
from tests.support.installation import Servers
from tests.support.processes import Proxy, redis_proxy, until

pytestmark = pytest.mark.slow
RATES = {f"RL_{of}_{name}_{what}": "10000" for of in ("KEY", "TENANT") for name in ("READ", "MUTATION", "OPS") for what in ("RPS", "BURST")}
DEGRADED = (
    "select count(*) from audit_events where event_type = 'system.rate_limit.degraded' and tenant_id is null and metadata->>'mode' = $1"
)


@asynccontextmanager
async def behind_a_proxy(servers: Servers, **env: str) -> AsyncIterator[tuple[Api, Proxy]]:
    async with redis_proxy(servers) as (proxy, url), limited_by(servers, REDIS_URL=url, **RATES, **env) as api:
        yield api, proxy


def operators_views(api: Api) -> set[str]:
    paths = {route.path for route in api.app.router.routes if isinstance(route, GatedRoute) and "GET" in (route.methods or ())}
    views = {path for path in paths if path.startswith("/v1/ops/")}
    assert {"/v1/ops/health", "/v1/ops/slo", "/v1/ops/authz/posture"} <= views
    return views


async def test_open_admits_and_says_so_once(servers: Servers) -> None:
    async with behind_a_proxy(servers) as (api, proxy):
        person = await api.person()
        assert "X-RateLimit-Status" not in (await person.get("/v1/corpora")).headers
        before = await count(api, DEGRADED, "open")
        proxy.refusing = True
        proxy.cut()
        answers = await asyncio.gather(*(person.get("/v1/corpora") for _ in range(20)))
        assert {(answer.status_code, answer.headers["X-RateLimit-Status"]) for answer in answers} == {(200, "degraded")}
        assert await count(api, DEGRADED, "open") == before + 1
        for refused in (await person.get("/v1/corpora/none"), await person.post("/v1/corpora", json={})):
            assert refused.status_code in (404, 422) and refused.headers["X-RateLimit-Status"] == "degraded"
        public = await api.anonymous().get("/v1/openapi.json")
        assert public.status_code == 200


async def test_closed_refuses_all_but_operators_and_probes(servers: Servers) -> None:
    async with behind_a_proxy(servers, RL_FAIL_MODE="closed") as (api, proxy):
        person = await api.person()
        assert (await person.get("/v1/corpora")).status_code == 200
        proxy.refusing = True
        proxy.cut()
        refused = await person.get("/v1/corpora")
        assert error_of(refused) == ("RATE_LIMIT_UNAVAILABLE", 503) and refused.headers["Retry-After"] == "1"
        assert error_of(await api.anonymous().post("/v1/auth/login", json={})) == ("RATE_LIMIT_UNAVAILABLE", 503)
        for path in operators_views(api):
            answer = await person.get(path)
            assert answer.status_code == 200 or error_of(answer) == ("SLO_DATA_UNAVAILABLE", 503), path
            assert answer.headers["X-RateLimit-Status"] == "degraded", path
        assert (await api.anonymous().get("/v1/health")).status_code == 200


async def test_a_redis_that_is_silent_costs_a_tenth_of_a_second_and_then_nothing(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: Upkeep) -> None:
        """The request is the first to find Redis silent."""

    monkeypatch.setattr(Upkeep, "step", nothing)
    async with behind_a_proxy(servers) as (api, proxy):
        person, redis = await api.person(), api.resources.get(Redis)
        await asyncio.gather(*(person.get("/v1/corpora") for _ in range(10)))
        await redis.line.run("PING")  # after the ends of those
        proxy.answering.clear()
        began = perf_counter()
        first = await person.get("/v1/corpora")
        waited = perf_counter() - began
        assert redis._left_alone_until > 0
        redis._left_alone_until += 60  # however long the next one takes to come
        with monkeypatch.context() as watching:
            asked: list[Any] = []
            run = redis.line.run
            watching.setattr(redis.line, "run", lambda *command: asked.append(command) or run(*command))
            second = await person.get("/v1/corpora")
        assert first.headers["X-RateLimit-Status"] == second.headers["X-RateLimit-Status"] == "degraded"
        assert 0.09 <= waited < 2 and asked == [], (waited, asked)
        assert len(api.resources.get(Admissions)._unended) == 1  # the first may have been heard
        redis._left_alone_until -= 60
        proxy.answering.set()

        async def back() -> bool:
            return "X-RateLimit-Status" not in (await person.get("/v1/corpora")).headers

        await until(back, 5)


@pytest.mark.parametrize(("places", "news_for_s", "waits"), [(100, 60, False), (8, 60, True), (100, 0, True)])
async def test_an_answer_waits_for_the_end_of_its_lease_unless_places_are_known_to_be_left(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, places: int, news_for_s: float, waits: bool
) -> None:
    async def nothing(_: Upkeep) -> None:
        """Nobody else finds out that Redis is silent."""

    monkeypatch.setattr(Upkeep, "step", nothing)
    monkeypatch.setattr("nexusrag.billing.admission.service._NEWS_FOR_S", news_for_s)
    async with behind_a_proxy(servers, TENANT_MAX_CONCURRENCY=str(places)) as (api, proxy):
        person, redis, admissions = await api.person(), api.resources.get(Redis), api.resources.get(Admissions)
        corpus = await person.corpus()
        redis._budget_s = 5
        async with Held(api, person.tenant) as held:
            upload = asyncio.create_task(person.post("/v1/documents/text", json={"corpus_id": corpus, "text": "words"}))
            await held.waiting()
            proxy.answering.clear()
            redis._budget_s = 0.1
        assert (await upload).status_code == 202
        assert redis.is_left_alone is waits and not admissions.held
        proxy.answering.set()
        redis.line.hang_up()  # what was sent was lost on the way, for all that anybody knows
        redis._left_alone_until = 0
        await asyncio.sleep(0)
        assert len(admissions._unended) == 1
        await admissions.end_unended()
        assert await redis.client.zcard(admissions.store._leases(person.tenant)) == 0


async def test_the_hard_cap_holds_without_redis_and_after_it_came_back(servers: Servers) -> None:
    async with behind_a_proxy(servers) as (api, proxy):
        person = await api.person()
        await limit(api, person.tenant, daily_requests_limit=12, hard_cap_enabled=True)
        for _ in range(3):
            await person.get("/v1/corpora")

        async def written() -> bool:
            found = await rows(api, "select plain_units from usage_periods where tenant_id = $1 and period = 'day'", person.tenant)
            return [row["plain_units"] for row in found] == [3]

        await until(written, 5)
        proxy.refusing = True
        proxy.cut()
        for _ in range(4):
            answer = await person.get("/v1/corpora")
            assert answer.headers["X-RateLimit-Status"] == "degraded", answer.text
        assert answer.headers["X-Quota-Day-Used"] == "7"
        assert (await person.get("/v1/corpora/none")).status_code == 404  # given back
        assert (await person.get("/v1/corpora")).headers["X-Quota-Day-Used"] == "8"
        proxy.refusing = False

        async def back() -> bool:
            return "X-RateLimit-Status" not in (await person.get("/v1/admin/plans")).headers

        await until(back, 5)
        assert await used(person) == (8, 8)
        answers = await asyncio.gather(*(person.get("/v1/corpora") for _ in range(10)))
        assert sum(answer.status_code == 200 for answer in answers) == 4
        assert error_of(next(answer for answer in answers if answer.status_code != 200)) == ("QUOTA_EXCEEDED", 402)


async def test_a_redis_that_came_back_with_older_data_takes_no_units_away(servers: Servers) -> None:
    """So soon that its epoch still stands, and while nobody waited for an answer."""
    async with behind_a_proxy(servers) as (api, proxy):
        person = await api.person()
        await limit(api, person.tenant, daily_requests_limit=6, hard_cap_enabled=True)
        store, redis = api.resources.get(Admissions).store, Redis(servers.settings.stores)
        for _ in range(3):
            await person.get("/v1/corpora")
        kept = {key: await redis.client.dump(key) for key in store._units(person.tenant, clock.now().date())}
        for _ in range(2):
            await person.get("/v1/corpora")

        async def counted() -> int:
            return await count(api, "select sum(plain_units) from usage_periods where tenant_id = $1 and period = 'day'", person.tenant)

        async def written() -> bool:
            return await counted() == 5

        await until(written)
        for key, value in kept.items():
            await redis.client.restore(key, 0, value, replace=True)
        proxy.cut()
        await redis.close()

        async def back() -> bool:
            return "X-RateLimit-Status" not in (await person.get("/v1/admin/plans")).headers

        await until(back)
        assert await used(person) == (5, 5)
        assert [(await person.get("/v1/corpora")).status_code for _ in range(3)] == [200, 402, 402]

        async def more() -> bool:
            now = await counted()
            assert now >= 5, "what was counted was taken back"
            return now == 6

        await until(more)


async def test_a_hard_cap_is_not_passed_without_redis(servers: Servers) -> None:
    async with behind_a_proxy(servers) as (api, proxy):
        person = await api.person()
        await limit(api, person.tenant, daily_requests_limit=5, hard_cap_enabled=True)
        proxy.refusing = True
        proxy.cut()
        answers = await asyncio.gather(*(person.get("/v1/corpora") for _ in range(20)))
        assert {answer.headers["X-RateLimit-Status"] for answer in answers if answer.status_code == 200} == {"degraded"}
        assert sum(answer.status_code == 200 for answer in answers) == 5
        assert {error_of(answer) for answer in answers if answer.status_code != 200} == {("QUOTA_EXCEEDED", 402)}


async def test_without_redis_every_successful_answer_says_what_is_left(servers: Servers) -> None:
    async with behind_a_proxy(servers) as (api, proxy):
        person = await api.person()
        await limit(api, person.tenant, daily_requests_limit=9, hard_cap_enabled=True)
        body = {"session_id": new_id("s"), "corpus_id": await person.corpus(), "message": "What?"}
        proxy.refusing = True
        proxy.cut()
        answers = [await person.get("/v1/corpora"), await person.post("/v1/run", json=body), await person.get("/v1/admin/plans")]
        assert {answer.headers["X-RateLimit-Status"] for answer in answers} == {"degraded"}
        first, *after = (int(answer.headers["X-Quota-Day-Used"]) for answer in answers)
        assert after == [first + 3, first + 3]


async def test_what_redis_could_not_be_told_it_is_told_later(servers: Servers) -> None:
    async with behind_a_proxy(servers) as (api, proxy):
        person = await api.person()
        corpus = await person.corpus()
        body = {"session_id": new_id("s"), "corpus_id": corpus, "message": "What?"}
        async with person.client.stream("POST", "/v1/run", json=body) as answer:
            assert answer.status_code == 200
            proxy.refusing = True
            proxy.cut()
            await answer.aread()
        proxy.refusing = False
        redis = api.resources.get(Redis)

        async def released() -> bool:
            leases = api.resources.get(Admissions).store._leases(person.tenant)
            try:
                return int(await redis.client.zcard(leases)) == 0
            except ConnectionError:
                return False

        await until(released, 8)
