"""Runs against a model over the network: its circuit breaker, its places, and who may look at them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Event, Person, error_of
from tests.support.behind import audited
from tests.support.installation import Servers, serving, working
from tests.support.openai_stand_in import OpenAIStandIn, hang, openai_stand_in, refuse, talk
from tests.support.processes import until

pytestmark = pytest.mark.slow
FACT = "The lighthouse keeper is called Ada."


class Outside(NamedTuple):
    api: Api
    model: OpenAIStandIn

    async def asker(self) -> tuple[Person, str]:
        person = await self.api.person()
        corpus = await person.corpus()
        await person.text(corpus, FACT)
        return person, corpus

    def fails_for(self, word: str, status: int = 503) -> None:
        """Whoever asks about `word` is refused, everybody else answered."""

        async def chat(request: web.Request, body: Any) -> web.StreamResponse:
            asked = body["messages"][-1]["content"]
            return await (refuse(status) if word in asked else hang() if "forever" in asked else talk())(request, body)

        self.model.chat = chat


@asynccontextmanager
async def outside(servers: Servers, **env: str) -> AsyncIterator[Outside]:
    async with openai_stand_in() as model:
        settings = servers.with_env(
            LLM_PROVIDER="openai",
            LLM_BASE_URL=model.url,
            CB_REDIS_PREFIX=new_id("cb"),
            LLM_SLOT_REDIS_PREFIX=new_id("slots"),
            EXT_RETRY_BACKOFF_MS="1",
            **env,
        )
        async with serving(settings) as (app, url), working(settings):
            api = Api(servers, app, url)
            held = Outside(api, model)
            try:
                yield held
            finally:
                await api.close()


def ending(events: list[Event]) -> str:
    """The code of the error that a run ended in, else the type of what came before the end."""
    last = events[-2]
    return str(last.data["data"]["code"]) if last.type == "error" else last.type


async def test_one_tenants_failing_calls_open_its_breaker_and_nobody_elses(servers: Servers) -> None:
    async with outside(servers) as held:
        held.fails_for("trouble")
        (one, its), (other, theirs) = await held.asker(), await held.asker()
        codes = [ending(await one.run(its, "Is the lighthouse in trouble?")) for _ in range(5)]
        assert codes[:2] == ["SERVICE_UNAVAILABLE"] * 2
        assert codes[-1] == "INTEGRATION_UNAVAILABLE"
        asked = len(held.model.requests)
        assert asked == 5
        refused = await one.run(its, "Who is the lighthouse keeper?")
        assert ending(refused) == "INTEGRATION_UNAVAILABLE"
        assert len(held.model.requests) == asked
        assert ending(await other.run(theirs, "Who is the lighthouse keeper?")) == "message.final"

        seen = (await one.get("/v1/ops/health")).json()["data"]
        assert (seen["status"], seen["degraded"]) == ("degraded", ["llm.openai"])
        assert seen["breakers"][0]["state"] == "open"
        assert (await other.get("/v1/ops/health")).json()["data"]["breakers"] == []

        async def measured() -> bool:
            return 'nexusrag_breakers_open{integration="llm.openai"} 1.0' in (await other.get("/v1/metrics")).text

        await until(measured)

        operator = await held.api.operator()
        reset = await operator.post(
            "/v1/admin/ops/actions/reset-breaker", params={"integration": "llm.openai"}, headers={"Idempotency-Key": new_id("k")}
        )
        assert reset.status_code == 200, reset.text
        assert ending(await one.run(its, "Who is the lighthouse keeper?")) == "message.final"


async def test_a_refused_key_opens_nothing_and_goes_on_saying_what_to_check(servers: Servers) -> None:
    async with outside(servers) as held:
        held.fails_for("lighthouse", 401)
        person, corpus = await held.asker()
        for _ in range(7):
            events = await person.run(corpus, "Who is the lighthouse keeper?")
            assert "OPENAI_API_KEY" in events[-2].data["data"]["message"]
        assert len(held.model.requests) == 7


async def test_a_run_waits_for_its_place_and_is_told_when_that_takes_too_long(servers: Servers) -> None:
    """With one connection to the database: whoever held it while waiting would keep everybody else from being served."""
    pool = {"API_DB_POOL_SIZE": "1", "API_DB_MAX_OVERFLOW": "0"}
    async with outside(servers, LLM_MAX_CONCURRENCY="1", LLM_SLOT_WAIT_TIMEOUT_S="2", **pool) as held:
        held.fails_for("nothing at all")
        (one, its), (other, theirs) = await held.asker(), await held.asker()
        operator = await held.api.operator()

        async def slots() -> dict[str, Any]:
            answer = await operator.get("/v1/admin/slots")
            assert answer.status_code == 200, answer.text
            return dict(answer.json()["data"])

        async def taken() -> bool:
            return (await slots())["in_use"] == 1

        async def queued() -> bool:
            return (await slots())["waiting"] == 1

        async def free() -> bool:
            return (await slots())["in_use"] == 0

        async with one.running(its, "Will the lighthouse stand forever?"):
            await until(taken)
            second = asyncio.create_task(other.run(theirs, "Who is the lighthouse keeper?"))
            await until(queued)
            seen = await slots()
            assert (seen["total"], seen["available"], seen["scope"]) == (1, 0, "installation")
            assert seen["tenants"] == sorted(
                [
                    {"tenant_id": one.tenant, "in_use": 1, "waiting": 0},
                    {"tenant_id": other.tenant, "in_use": 0, "waiting": 1},
                ],
                key=lambda tenant: str(tenant["tenant_id"]),
            )
            assert ending(await second) == "SERVICE_BUSY"
            third = asyncio.create_task(other.run(theirs, "Who is the lighthouse keeper?"))
            await until(queued)
            freed = await operator.post("/v1/admin/slots/reset")
            assert freed.json()["data"]["freed"] == 1
            assert ending(await third) == "message.final"
        await until(free)  # the run whose reader has left is over after its grace
        assert len(await audited(held.api, operator.tenant, "ops.slots.reset")) == 1


async def test_places_are_for_operators(api: Api) -> None:
    person, operator = await api.person(), await api.operator()
    for method, path in (("GET", "/v1/admin/slots"), ("POST", "/v1/admin/slots/reset")):
        assert error_of(await person.client.request(method, path)) == ("AUTH_FORBIDDEN", 403)
        assert (await operator.client.request(method, path)).status_code == 200
    seen = (await operator.get("/v1/admin/slots")).json()["data"]
    assert seen == {"in_use": 0, "total": None, "available": None, "waiting": 0, "tenants": [], "scope": "installation"}
