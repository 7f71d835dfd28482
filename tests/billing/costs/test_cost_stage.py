"""What a budget does to requests: headers, warnings, refusals, degradation; and what each request is charged."""

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from nexusrag.billing.costs.terms import SpendFigures
from nexusrag.billing.ledger.facade import Caps, Reservation, reserve, settle
from nexusrag.infra.database import Database
from nexusrag.kernel.ids import new_id
from tests.billing.costs.support import BUDGET, add_price, line, set_budget, spend
from tests.support.api import Api, Event, Person, error_of
from tests.support.behind import audited, count, rows
from tests.support.processes import until

MONTH = "X-Cost-Month-"
TEXT = "The lighthouse keeper is called Ada Moreau."
QUESTION = "Who is the lighthouse keeper?"
EXCEEDED = ("COST_BUDGET_EXCEEDED", 402)


async def spent(api: Api, person: Person, usd: str) -> None:
    """The tenant has spent this much more, and every process knows."""
    await spend(api, person, line(usd))
    await api.resources.get(SpendFigures).refresh()


async def asker(api: Api, **config: Any) -> tuple[Person, str]:
    """An admin with a document."""
    admin = await api.person()
    corpus = await admin.corpus(**config)
    await admin.text(corpus, TEXT)
    return admin, corpus


def told(events: list[Event], kind: str) -> list[dict[str, Any]]:
    return [event.data["data"] for event in events if event.type == kind]


async def charged(api: Api, person: Person, route_class: str) -> list[tuple[str, str, Decimal]]:
    """Lines of the tenant: component, provider, dollars."""
    found = await rows(
        api, "select component, provider, usd from ledger_lines where tenant_id = $1 and route_class = $2 "
        "and component <> 'storage' order by id", person.tenant,
        route_class,
    )  # fmt: skip
    return [(row["component"], row["provider"], row["usd"]) for row in found]


async def test_every_answer_says_what_the_month_has_cost(api: Api) -> None:
    admin = await api.person()
    headers = (await admin.get("/v1/corpora")).headers
    assert [headers[f"{MONTH}Spend-Usd"], headers["X-Cost-Status"], headers["X-Cost-Estimated"]] == ["0.000000", "ok", "false"]
    assert f"{MONTH}Budget-Usd" not in headers
    await set_budget(admin, monthly_budget_usd=10)
    await spent(api, admin, "2.5000004")
    headers = (await admin.get("/v1/corpora")).headers
    assert [headers[f"{MONTH}{what}-Usd"] for what in ("Budget", "Spend", "Remaining")] == ["10.000000", "2.500000", "7.500000"]
    await spent(api, admin, "9")
    headers = (await admin.get("/v1/corpora")).headers
    assert [headers[f"{MONTH}Remaining-Usd"], headers["X-Cost-Status"]] == ["0.000000", "warn"]


async def test_the_figures_are_seconds_old_at_most(api: Api) -> None:
    admin = await api.person()
    await admin.get("/v1/corpora")
    await spend(api, admin, line("1", estimated=True))

    async def shown() -> bool:
        headers = (await admin.get("/v1/corpora")).headers
        return (headers[f"{MONTH}Spend-Usd"], headers["X-Cost-Estimated"]) == ("1.000000", "true")

    await until(shown, within_s=8, every_s=0.2)


async def test_a_refusal_has_no_cost_headers(api: Api) -> None:
    admin = await api.person()
    assert "X-Cost-Status" not in (await admin.get("/v1/corpora/none")).headers


async def test_a_runs_answer_counts_what_it_has_reserved(api: Api) -> None:
    admin, corpus = await asker(api)
    await set_budget(admin, monthly_budget_usd=1000)
    body = {"session_id": new_id("s"), "corpus_id": corpus, "message": QUESTION}
    headers = (await admin.post("/v1/run", json=body)).headers
    assert (headers[f"{MONTH}Spend-Usd"], headers["X-Cost-Estimated"]) == ("0.000000", "false")
    await add_price(admin, provider="extractive", component="llm", rate_value_usd=1)
    headers = (await admin.post("/v1/run", json={**body, "message": "Who else?"})).headers
    reserved = Decimal(headers[f"{MONTH}Spend-Usd"])
    assert reserved > 0
    assert Decimal(headers[f"{MONTH}Remaining-Usd"]) == 1000 - reserved
    assert (headers["X-Cost-Estimated"], headers["X-Cost-Status"]) == ("true", "ok")

    async def settled() -> bool:
        await api.resources.get(SpendFigures).refresh()
        return Decimal((await admin.get("/v1/corpora")).headers[f"{MONTH}Spend-Usd"]) < reserved

    await until(settled)
    # What does not fit into the rest is refused, though the budget is not spent.
    await set_budget(admin, monthly_budget_usd=float(reserved) / 2, enforce_hard_cap=True)
    answer = await admin.post("/v1/run", json={**body, "message": "And who else?"})
    assert error_of(answer) == EXCEEDED
    assert "more than is left" in answer.json()["error"]["message"]
    assert Decimal(answer.headers[f"{MONTH}Remaining-Usd"]) > 0


async def test_a_plan_without_costs_is_held_to_no_budget(api: Api) -> None:
    admin, corpus = await asker(api)
    await add_price(admin, provider="extractive", component="llm", rate_value_usd=1)
    await set_budget(admin, monthly_budget_usd=0, enforce_hard_cap=True)
    assert (await (await api.operator()).patch(f"/v1/admin/plans/{admin.tenant}", json={"plan_id": "free"})).status_code == 200
    assert (await admin.run(corpus, QUESTION))[-1].type == "done"
    assert "X-Cost-Status" not in (await admin.get("/v1/corpora")).headers


async def test_beyond_the_warning_runs_say_so_and_it_is_on_record_once(api: Api) -> None:
    admin, corpus = await asker(api)
    await set_budget(admin, monthly_budget_usd=10)
    await spent(api, admin, "7.99")
    assert told(await admin.run(corpus, QUESTION), "cost.warn") == []
    await spent(api, admin, "0.01")
    for _ in range(2):
        events = await admin.run(corpus, QUESTION)
        assert [event.type for event in events][:2] == ["request.accepted", "cost.warn"]
        (warning,) = told(events, "cost.warn")
        assert (warning["status"], warning["month_budget_usd"], warning["month_spend_usd"], warning["warn_ratio"]) == ("warn", 10, 8, 0.8)
    assert (await admin.search(corpus, QUESTION)) != []
    (event,) = await audited(api, admin.tenant, "cost.warn.triggered")
    assert json.loads(event["metadata"])["month_spend_usd"] == 8
    # A budget that is another one warns anew.
    await set_budget(admin, monthly_budget_usd=9)
    await admin.run(corpus, QUESTION)
    assert len(await audited(api, admin.tenant, "cost.warn.triggered")) == 2


async def test_a_budget_that_is_not_enforced_never_stops_anything(api: Api) -> None:
    admin, corpus = await asker(api)
    await set_budget(admin, monthly_budget_usd=0)
    await spent(api, admin, "5")
    events = await admin.run(corpus, QUESTION)
    assert [event.type for event in events][-1] == "done"
    assert told(events, "cost.warn")[0]["status"] == "warn"


async def test_a_spent_budget_blocks_what_spends_and_nothing_else(api: Api) -> None:
    admin, corpus = await asker(api)
    first = {"session_id": "s-cap", "corpus_id": corpus, "message": QUESTION}
    first["session_id"] += admin.tenant
    asked = await admin.post("/v1/run", json=first, headers={"Idempotency-Key": "k"})
    await set_budget(admin, monthly_budget_usd=1, enforce_hard_cap=True, hard_cap_mode="block")
    await spent(api, admin, "1")
    document = (await admin.get("/v1/documents")).json()["data"][0]["id"]
    for answer in (
        await admin.post("/v1/run", json={**first, "message": "And now?"}),
        await admin.post(f"/v1/corpora/{corpus}/search", json={"query": QUESTION}),
        await admin.post("/v1/documents/text", json={"corpus_id": corpus, "text": TEXT}),
        await admin.upload(corpus, "a.txt", TEXT.encode()),
        await admin.post(f"/v1/documents/{document}/reindex", json={}),
    ):
        assert error_of(answer) == EXCEEDED
        assert answer.headers["X-Cost-Status"] == "capped"
        assert answer.json()["error"]["details"]["month_budget_usd"] == 1
    # What was accepted before is told again, at no cost; what costs nothing goes on; and the way out is open.
    assert (await admin.post("/v1/run", json=first, headers={"Idempotency-Key": "k"})).text == asked.text
    last = asked.text.split("\n", 1)[0].removeprefix("id: ")
    assert (await admin.post("/v1/run", json=first, headers={"Last-Event-ID": last})).status_code == 200
    assert (await admin.get("/v1/documents")).headers["X-Cost-Status"] == "capped"
    (event,) = await audited(api, admin.tenant, "cost.cap.triggered")
    assert (event["outcome"], event["error_code"]) == ("failure", "COST_BUDGET_EXCEEDED")
    await set_budget(admin, current_month_override_usd=5)
    assert (await admin.run(corpus, QUESTION))[-1].type == "done"
    legacy = (await set_budget(admin, current_month_override_usd=1)) and await admin.post("/run", json={**first, "message": "x"})
    assert (legacy.status_code, legacy.json()["detail"]["code"]) == (402, "COST_BUDGET_EXCEEDED")


async def test_a_run_is_not_refused_for_what_others_have_given_back_since(api: Api) -> None:
    admin, corpus = await asker(api)
    await set_budget(admin, monthly_budget_usd=1, enforce_hard_cap=True)
    held = Reservation(
        subject=new_id("run"), route_class="run", units=3, tokens=10, usd=Decimal(1), lasts=timedelta(minutes=1),
        user_id=admin.user_id, credential_id=admin.key_id,
    )  # fmt: skip
    async with api.resources.get(Database).work(admin.tenant) as work:
        await reserve(work, held, Caps())
    await api.resources.get(SpendFigures).refresh()
    body = {"session_id": new_id("s"), "corpus_id": corpus, "message": QUESTION}
    assert error_of(await admin.post("/v1/run", json=body)) == EXCEEDED
    async with api.resources.get(Database).work(admin.tenant) as work:
        await settle(work, held.subject, [], tokens=0, estimated=False)
    assert (await admin.post("/v1/run", json=body)).status_code == 200


async def test_an_operator_is_not_told_what_another_tenant_spends(api: Api) -> None:
    admin, operator = await api.person(), await api.operator()
    await set_budget(admin, monthly_budget_usd=7)
    answer = await operator.get(f"/v1/admin/quotas/{admin.tenant}")
    assert answer.status_code == 200
    assert [name for name in answer.headers if name.startswith("x-cost-")] == []
    assert f"{MONTH}Spend-Usd" in (await operator.get(f"/v1/admin/quotas/{operator.tenant}")).headers


async def test_a_spent_budget_that_degrades_makes_runs_cheaper(api: Api) -> None:
    admin, corpus = await asker(api)
    for number in range(5):
        await admin.text(corpus, f"{TEXT} She has {number} cats.")
    await set_budget(admin, monthly_budget_usd=1, enforce_hard_cap=True, hard_cap_mode="degrade")
    await spent(api, admin, "1")
    answer = await admin.post(
        "/v1/run", json={"session_id": f"d{admin.tenant}", "corpus_id": corpus, "message": QUESTION, "audio": True, "top_k": 20}
    )
    assert (answer.status_code, answer.headers["X-Cost-Status"]) == (200, "degraded")
    assert "audio.ready" not in answer.text
    events = await admin.run(corpus, QUESTION, top_k=20)
    (warning,) = told(events, "cost.warn")
    assert (warning["status"], warning["actions"]) == ("degraded", ["audio", "top_k", "local_retrieval", "output_tokens"])
    receipt = (await admin.get(f"/v1/runs/{(events[0].id or '').partition('.')[0]}")).json()["data"]["receipt"]
    assert len(receipt["passages"]) <= 3
    assert len(await admin.search(corpus, QUESTION, top_k=20)) <= 3
    (event,) = await audited(api, admin.tenant, "cost.degrade.applied")
    assert json.loads(event["metadata"])["actions"] == warning["actions"]


async def test_a_search_is_charged_where_it_has_a_price_and_writes_nothing_where_it_has_none(api: Api) -> None:
    admin, corpus = await asker(api)
    await admin.search(corpus, QUESTION)
    assert await charged(api, admin, "read") == []
    await add_price(admin, provider="local_pgvector", component="retrieval", rate_type="per_request", rate_value_usd=0.002)
    for _ in range(2):
        answer = await admin.post(f"/v1/corpora/{corpus}/search", json={"query": QUESTION}, headers={"X-Request-Id": "the-same"})
        assert answer.status_code == 200
    assert await charged(api, admin, "read") == [("embedding", "fake", 0), ("retrieval", "local_pgvector", Decimal("0.002"))] * 2


async def test_what_ingestion_embeds_is_charged_once_and_what_is_known_already_is_not(api: Api) -> None:
    admin = await api.person()
    await add_price(admin, provider="fake", component="embedding", rate_value_usd=1)
    corpus = await admin.corpus()
    document = await admin.text(corpus, TEXT)
    ((component, provider, usd),) = await charged(api, admin, "mutation")
    assert (component, provider) == ("embedding", "fake")
    assert usd == Decimal(-(-len(TEXT) // 4)) / 1000
    assert (await admin.post(f"/v1/documents/{document}/reindex", json={})).status_code in (200, 202)
    assert (await admin.settled(document))["status"] == "succeeded"
    assert len(await charged(api, admin, "mutation")) == 1
    (entry,) = await rows(api, "select user_id, estimated, usd from ledger where tenant_id = $1 and subject like 'ingest:%'", admin.tenant)
    assert (entry["user_id"], entry["estimated"], entry["usd"]) == (admin.user_id, True, usd)


async def test_metering_that_fails_is_on_record_once_and_the_search_is_answered(api: Api) -> None:
    admin, corpus = await asker(api)
    await add_price(admin, provider="local_pgvector", component="retrieval", rate_type="per_request", rate_value_usd=1)
    await spend(api, admin, line("1"))
    connection = await api.servers.admin()
    try:
        async with connection.transaction():  # somebody holds the month's row for ever
            await connection.execute("select 1 from usage_periods where tenant_id = $1 for update", admin.tenant)
            for _ in range(2):
                async with asyncio.timeout(5):
                    assert await admin.search(corpus, QUESTION) != []
    finally:
        await connection.close()
    assert len(await audited(api, admin.tenant, "cost.metering.degraded")) == 1
    assert await charged(api, admin, "read") == []
    await admin.search(corpus, QUESTION)
    assert len(await charged(api, admin, "read")) == 2


@pytest.mark.parametrize("path", [BUDGET, "/v1/admin/costs/spend/summary"])
async def test_looking_at_costs_costs_nothing(api: Api, path: str) -> None:
    admin = await api.person()
    assert (await admin.get(path)).status_code == 200
    assert await count(api, "select count(*) from ledger where tenant_id = $1", admin.tenant) == 0
