"""What a run costs, however it ends: reserved when it is accepted, settled with what was used, never twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from nexusrag.agents.runs import reconcile
from nexusrag.agents.runs.metering import ANSWER, REWRITE, call_id
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.web.call import CallContext
from nexusrag.web.stage import Stage
from tests.agents.scripted import FACTS, Installation, asking, code_of, run_id_of
from tests.billing.costs.support import CATALOG, add_price
from tests.billing.ledger.support import entries, sums
from tests.support.api import Api, Person, error_of, parse_events
from tests.support.behind import rows
from tests.support.installation import Servers, http, serving, working
from tests.support.openai_stand_in import OpenAIStandIn, openai_stand_in
from tests.support.pipelines import with_stage
from tests.support.processes import api_process, until

QUESTION = "Who is the lighthouse keeper?"


async def entry(api: Api, run_id: str) -> dict[str, Any]:
    (row,) = await rows(api, "select * from ledger where subject = $1", run_id)
    return row


async def lines(api: Api, run_id: str) -> dict[str, int]:
    """Quantities by component and what was counted."""
    found = await rows(api, "select component, rate_type, quantity from ledger_lines where subject = $1", run_id)
    return {f"{row['component']} {row['rate_type']}": int(row["quantity"]) for row in found}


async def balanced(api: Api, person: Person) -> bool:
    """The counters are the sum of the entries, and nothing is held any more."""
    held = await sums(api.servers, person.tenant)
    return held == await entries(api.servers, person.tenant) and all(values[1] == values[3] == 0 for values in held.values())


@asynccontextmanager
async def speaking(servers: Servers, provider: OpenAIStandIn, **env: str) -> AsyncIterator[Api]:
    """An API that asks the stand-in."""
    settings = servers.with_env(**openai(provider), INGEST_EXECUTION_MODE="inline", **env)
    async with serving(settings) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


def openai(provider: OpenAIStandIn) -> dict[str, str]:
    return {"LLM_PROVIDER": "openai", "LLM_BASE_URL": provider.url, "LLM_MODEL": "stand-in", "OPENAI_API_KEY": "sk-stand-in"}


async def asker(api: Api) -> tuple[Person, str]:
    person = await api.person()
    corpus = await person.corpus()
    await person.text(corpus, FACTS)
    return person, corpus


async def test_a_finished_run_is_settled_with_what_its_receipt_says(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    events = await person.run(corpus, QUESTION, audio=True)
    run_id = run_id_of(events)
    tokens = (await scripted.receipt(person, run_id))["receipt"]["tokens"]
    held = await entry(scripted.api, run_id)
    assert (held["state"], held["units"], held["tokens"]) == ("settled", 3, tokens["input"] + tokens["output"])
    assert held["held_tokens"] >= held["tokens"], "what was reserved was enough"
    counted = await lines(scripted.api, run_id)
    assert (counted["llm per_1k_input_tokens"], counted["llm per_1k_output_tokens"]) == (tokens["input"], tokens["output"])
    assert counted["retrieval per_request"] == 1
    assert counted["embedding per_1k_tokens"] > 0
    (answer,) = [event.data["data"]["text"] for event in events if event.type == "message.final"]
    assert counted["tts per_char"] == len(answer)
    assert await balanced(scripted.api, person)


async def test_a_stream_that_breaks_after_200_tokens_is_charged_for_200(servers: Servers) -> None:
    async with openai_stand_in() as provider, speaking(servers, provider) as api:
        person, corpus = await asker(api)
        provider.behaviours = [provider.metered(200, cut=True)]
        events = await person.run(corpus, QUESTION)
        assert code_of(events) == "SERVICE_UNAVAILABLE"
        held = await entry(api, run_id_of(events))
        assert (held["state"], held["estimated"]) == ("settled", True)
        assert (await lines(api, run_id_of(events)))["llm per_1k_output_tokens"] == 200
        assert await balanced(api, person)


async def test_a_stream_without_figures_is_charged_for_what_came(servers: Servers) -> None:
    async with openai_stand_in() as provider, speaking(servers, provider) as api:
        person, corpus = await asker(api)
        provider.behaviours = [provider.metered(30, with_usage=False), provider.metered(40)]
        for wrote, estimated in ((30, True), (40, False)):
            run_id = run_id_of(await person.run(corpus, QUESTION))
            if not estimated:
                assert (await lines(api, run_id))["llm per_1k_output_tokens"] == wrote
            assert (await entry(api, run_id))["estimated"] is estimated


async def test_a_cancelled_run_is_charged_for_what_was_said_until_then(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    async with asking(person, corpus, scripted.model.play("one ", "two ", asyncio.Event(), "never")) as stream:
        await stream.read(3)
        await person.post(f"/v1/runs/{stream.run_id}/cancel")
        await stream.rest()
    held = await entry(scripted.api, stream.run_id)
    assert (held["state"], held["estimated"]) == ("settled", True)
    assert (await lines(scripted.api, stream.run_id))["llm per_1k_output_tokens"] == 2, "eight characters"
    assert await balanced(scripted.api, person)


async def test_a_run_whose_model_said_nothing_costs_its_units_alone(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    broken = ApiError(ErrorCode.SERVICE_UNAVAILABLE, "away")
    events = await person.run(corpus, scripted.model.play(broken))
    held = await entry(scripted.api, run_id_of(events))
    assert (held["state"], held["units"], held["tokens"]) == ("settled", 3, 0)
    assert await balanced(scripted.api, person)


async def test_a_run_that_is_asked_for_again_is_not_charged_again(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    key = {"Idempotency-Key": new_id("key")}
    session = new_id("s")
    first = await person.run(corpus, QUESTION, session_id=session, headers=key)
    again = await person.run(corpus, QUESTION, session_id=session, headers=key)
    assert run_id_of(first) == run_id_of(again)
    assert len(await rows(scripted.api, "select 1 from ledger where tenant_id = $1 and route_class = 'run'", person.tenant)) == 1
    assert {values[0] for values in (await sums(scripted.api.servers, person.tenant)).values()} == {3}


async def test_tokens_that_a_run_may_need_and_that_are_not_left_refuse_it_and_hold_nothing(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    operator = await scripted.api.operator()
    limited = await operator.patch(f"/v1/admin/quotas/{person.tenant}", json={"monthly_tokens_limit": 1000})
    assert limited.status_code == 200, limited.text
    body = {"session_id": new_id("s"), "corpus_id": corpus, "message": QUESTION}
    answer = await person.post("/v1/run", json=body)
    assert error_of(answer) == ("QUOTA_EXCEEDED", 402)
    assert (answer.json()["error"]["details"]["period"], answer.json()["error"]["details"]["limit"]) == ("month", 1000)
    assert answer.json()["error"]["message"] == "Monthly token quota exceeded"
    assert await rows(scripted.api, "select 1 from runs where tenant_id = $1", person.tenant) == []
    assert await rows(scripted.api, "select 1 from ledger where tenant_id = $1 and route_class = 'run'", person.tenant) == []
    assert await balanced(scripted.api, person)


async def test_runs_obey_what_stages_left_them_and_say_so(scripted: Installation) -> None:
    async def tighten(call: CallContext) -> None:
        call.limits.tighten(top_k=1, max_output_tokens=64, audio=False, local_only=True)
        call.notices.append(("cost.warn", {"status": "degraded"}))

    person, corpus = await scripted.asker(FACTS * 40)
    with with_stage(scripted.api.app, Stage("tight", tighten, lambda gate, method: gate.bulkhead == "run")):
        events = await person.run(corpus, QUESTION, top_k=5, audio=True)
    kinds = [event.type for event in events]
    assert kinds[:2] == ["request.accepted", "cost.warn"]
    assert kinds[-3:] == ["message.final", "audio.error", "done"]
    (final,) = [event.data["data"] for event in events if event.type == "message.final"]
    assert final["reduced"] == {"audio": False, "top_k": 1, "max_output_tokens": 64}
    prompt = scripted.model.prompts[-1]
    assert (len(prompt.passages), prompt.max_output_tokens) == (1, 64)


@pytest.mark.slow
async def test_after_a_kill_the_ledger_is_the_providers_invoice(servers: Servers) -> None:
    """The process dies in the middle of an answer. A worker closes its journal, charges what stands there, and then asks the provider."""
    async with openai_stand_in() as provider:
        usage = f"{provider.url}/usage/{{call_id}}"
        env = {**openai(provider), "LLM_USAGE_URL": usage, "RUN_DISCONNECT_GRACE_S": "60"}
        async with speaking(servers, provider) as api:
            person, corpus = await asker(api)
            provider.behaviours = [provider.metered(5000, pause=0.005)]
            async with api_process(servers, **env) as (process, url), http(url, person.key) as client:
                there = Person(
                    client, {"tenant_id": person.tenant, "user_id": person.user_id, "key_id": person.key_id, "api_key": person.key}
                )
                async with asking(there, corpus, QUESTION) as stream:
                    await stream.read(60)
                    process.kill()
            assert (await entry(api, stream.run_id))["state"] == "held"
            async with working(servers.with_env(**env, INGEST_QUEUE_NAME=new_id("queue"))):

                async def exact() -> bool:
                    held = await entry(api, stream.run_id)
                    return held["state"] == "settled" and not held["estimated"]

                await until(exact, within_s=40, every_s=0.2)
            read, wrote = provider.invoices[call_id(stream.run_id, ANSWER)]
            assert wrote >= 50
            assert (await entry(api, stream.run_id))["tokens"] == read + wrote
            counted = await lines(api, stream.run_id)
            assert (counted["llm per_1k_input_tokens"], counted["llm per_1k_output_tokens"]) == (read, wrote)
            assert await balanced(api, person)


@pytest.mark.slow
async def test_without_an_invoice_a_killed_run_costs_what_its_journal_holds(servers: Servers, scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    env = {"LLM_PROVIDER": "fake", "FAKE_LLM_DELTAS": "5000", "FAKE_LLM_DELAY_MS": "10", "RUN_DISCONNECT_GRACE_S": "60"}
    async with (
        api_process(servers, **env) as (process, url),
        person.at(url) as there,
        asking(there, corpus, QUESTION) as stream,
        working(servers.with_env(LLM_PROVIDER="fake", INGEST_QUEUE_NAME=new_id("queue"))),
    ):
        await stream.read(60)
        process.kill()

        async def settled() -> bool:
            return bool((await entry(scripted.api, stream.run_id))["state"] == "settled")

        await until(settled, within_s=40, every_s=0.2)
    held = await entry(scripted.api, stream.run_id)
    events = parse_events((await person.get(f"/v1/runs/{stream.run_id}/events")).text)
    said = "".join(event.data["data"]["delta"] for event in events if event.type == "token.delta")
    assert len(said) > 0
    assert held["estimated"] is True
    counted = await lines(scripted.api, stream.run_id)
    assert counted["llm per_1k_output_tokens"] == -(-len(said) // 4)
    assert 0 < counted["llm per_1k_input_tokens"] < held["held_tokens"]
    assert await balanced(scripted.api, person)


async def test_an_estimate_stays_while_the_provider_does_not_know(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_PAUSE", timedelta(0))
    async with openai_stand_in() as provider:
        usage = f"{provider.url}/usage/{{call_id}}"
        async with speaking(servers, provider, LLM_USAGE_URL=usage) as api:
            person, corpus = await asker(api)
            provider.behaviours = [provider.metered(20, cut=True)]
            run_id = run_id_of(await person.run(corpus, QUESTION))
            read, _ = provider.invoices.pop(call_id(run_id, ANSWER))
            await reconcile.correct_estimates(api.resources)
            assert (await entry(api, run_id))["estimated"] is True
            provider.invoices[call_id(run_id, ANSWER)] = (read, 23)

            async def exact() -> bool:  # other tests have left estimates that nobody can correct
                await reconcile.correct_estimates(api.resources)
                return not (await entry(api, run_id))["estimated"]

            await until(exact)
            held = await entry(api, run_id)
            assert (held["estimated"], held["tokens"]) == (False, read + 23), "three were on their way when the stream was cut"
            assert await balanced(api, person)


async def test_a_correction_is_priced_as_of_the_end_of_the_run(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_PAUSE", timedelta(0))
    async with openai_stand_in() as provider, speaking(servers, provider, LLM_USAGE_URL=f"{provider.url}/usage/{{call_id}}") as api:
        person, corpus = await asker(api)
        former = await add_price(person, provider="openai", rate_value_usd=1)
        provider.behaviours = [provider.metered(20, cut=True)]
        run_id = run_id_of(await person.run(corpus, QUESTION))
        now = clock.iso(clock.now())
        assert (await person.patch(f"{CATALOG}/{former['id']}", json={"effective_to": now})).status_code == 200
        await add_price(person, provider="openai", version="v2", rate_value_usd=100, effective_from=now)

        async def exact() -> bool:
            await reconcile.correct_estimates(api.resources)
            return not (await entry(api, run_id))["estimated"]

        await until(exact)
        held = await entry(api, run_id)
        assert held["usd"] == Decimal(held["tokens"]) / 1000


async def test_a_run_that_was_stopped_before_its_answer_is_charged_what_the_provider_says_of_its_question(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before no call of it can be open any more: the provider says of one that it has not closed what it says of one never made."""
    monkeypatch.setattr(reconcile, "_PAUSE", timedelta(0))
    async with openai_stand_in() as provider:
        usage = f"{provider.url}/usage/{{call_id}}"
        async with speaking(servers, provider, LLM_USAGE_URL=usage, LLM_TOTAL_TIMEOUT_S="3") as api:
            person, corpus = await asker(api)
            session = new_id("s")
            provider.behaviours = [provider.metered(3), provider.metered(150, pause=0.01)]
            await person.run(corpus, QUESTION, session_id=session)
            async with asking(person, corpus, "What did she bring?", session_id=session) as stream:
                await stream.read(1)
                rewrite = call_id(stream.run_id, REWRITE)
                await until(lambda: asyncio.sleep(0, provider.invoices.get(rewrite)))
                await person.post(f"/v1/runs/{stream.run_id}/cancel")
                await stream.rest()
            assert call_id(stream.run_id, ANSWER) not in provider.invoices
            await until(lambda: asyncio.sleep(0, rewrite not in provider.invoicing))
            await reconcile.correct_estimates(api.resources)
            assert (await entry(api, stream.run_id))["estimated"] is True

            async def exact() -> bool:
                await reconcile.correct_estimates(api.resources)
                return not (await entry(api, stream.run_id))["estimated"]

            await until(exact)
            assert (await entry(api, stream.run_id))["tokens"] == sum(provider.invoices[rewrite])
            assert await balanced(api, person)
