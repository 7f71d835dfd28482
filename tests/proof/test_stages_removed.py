"""Each stage of the pipeline is missed: without it, a request gets another answer than the suite demands. A new stage needs a request."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nexusrag.billing.admission.facade import Strangers
from nexusrag.flags.switches.facade import current
from nexusrag.infra.bulkheads import Bulkheads
from nexusrag.kernel.features import Feature
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.switches import Switch
from nexusrag.pipeline import PIPELINE
from tests.access.test_policies import PATH, policy
from tests.billing.costs.support import line, set_budget, spend
from tests.operations.sla.measured import under
from tests.operations.sla.test_enforcement import standing
from tests.support.api import Api, Person
from tests.support.behind import rows
from tests.support.pipelines import without_stage
from tests.support.soon import soon

Asked = Callable[[], Awaitable[Any]]
Made = Callable[[Api], Awaitable[Asked]]
CORPUS = {"name": "Corpus"}


def outcome(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"] if answer.is_error else ""


async def nobody_asks(api: Api) -> Asked:
    client = api.anonymous()
    return lambda: client.get("/v1/corpora")


async def a_foreign_tenant_is_named(api: Api) -> Asked:
    person, other = await api.person(), await api.person()
    return lambda: person.get("/v1/corpora", params={"tenant_id": other.tenant})


async def it_is_switched_off(api: Api) -> Asked:
    person = await api.person()
    corpus = await person.corpus()
    await rows(api, "insert into flags (key, scope, forced, value, set_by, expires_at) values ('kill.ingest', $1, true, 'true', 'x', "
               "now() + interval '1 hour')", person.tenant)  # fmt: skip
    await rows(api, "select pg_notify('nexusrag_changes', 'flags *')")

    async def is_heard() -> bool:
        return (await current(api.resources)).is_on(Switch.INGEST, person.tenant)

    await soon(is_heard, True)
    return lambda: person.post("/v1/documents/text", json={"corpus_id": corpus, "text": "Words."})


async def a_reader_writes(api: Api) -> Asked:
    reader = await api.person("reader")
    return lambda: reader.post("/v1/corpora", json=CORPUS)


async def the_plan_lacks_it(api: Api) -> Asked:
    person = await api.person()
    await rows(
        api, "insert into feature_overrides (tenant_id, feature_key, enabled) values ($1, $2, false)", person.tenant,
        Feature.OPS_ADMIN_ACCESS.value,
    )  # fmt: skip
    return lambda: person.get("/v1/ops/health")


async def a_policy_denies_the_kind(api: Api) -> Asked:
    person = await api.person()
    await _write(person, policy("deny", "read", None, "api_key"))
    return lambda: person.get("/v1/admin/api-keys")


async def a_body_names_a_foreign_tenant(api: Api) -> Asked:
    person, other = await api.person(), await api.person()
    return lambda: person.post("/v1/corpora", json=CORPUS | {"tenant_id": other.tenant})


async def a_corpus_is_read(api: Api) -> Asked:
    person = await api.person()
    corpus = await person.corpus()
    return lambda: person.get(f"/v1/corpora/{corpus}")


async def a_colleague_reads(api: Api) -> Asked:
    owner = await api.person("editor")
    document = await owner.text(await owner.corpus(), "Words.", wait=False)
    reader = await api.person("reader", owner.tenant)
    return lambda: reader.get(f"/v1/documents/{document}")


async def a_policy_denies_the_resource(api: Api) -> Asked:
    person = await api.person()
    corpus = await person.corpus()
    await _write(person, policy("deny", "read", {"eq": [{"var": "resource.id"}, corpus]}, "corpus"))
    return lambda: person.get(f"/v1/corpora/{corpus}")


async def it_is_sent_again(api: Api) -> Asked:
    person, key = await api.person(), new_id("k")
    body = {"id": new_id("c"), "name": "Corpus"}
    assert (await person.post("/v1/corpora", json=body, headers={"Idempotency-Key": key})).status_code == 201
    return lambda: person.post("/v1/corpora", json=body, headers={"Idempotency-Key": key})


async def all_places_are_taken(api: Api) -> Asked:
    person = await api.person()
    body = {"session_id": new_id("s"), "corpus_id": await person.corpus(), "message": "Who?"}

    async def run() -> Any:
        bulkhead = api.resources.get(Bulkheads)["run"]
        slots = [bulkhead.acquire(f"t-{place}") for place in range(bulkhead.limit - bulkhead.taken)]
        try:
            return await person.post("/v1/run", json=body | {"session_id": new_id("s")})
        finally:
            for slot in slots:
                slot.release()

    return run


async def an_address_floods(api: Api) -> Asked:
    strangers, client = api.resources.get(Strangers), api.anonymous()

    async def ask() -> Any:
        usual = strangers._on, strangers._rate
        strangers._on, strangers._rate = True, (0.01, 1)
        try:
            await client.get("/v1/openapi.json")
            return await client.get("/v1/openapi.json")
        finally:
            strangers._on, strangers._rate = usual

    return ask


async def nothing_is_left(api: Api) -> Asked:
    person = await api.person()
    await rows(api, "insert into quota_limits (tenant_id, daily_requests_limit, hard_cap_enabled) values ($1, 0, true)", person.tenant)
    return lambda: person.get("/v1/corpora")


async def its_budget_is_spent(api: Api) -> Asked:
    admin = await api.person()
    corpus = await admin.corpus()
    await set_budget(admin, monthly_budget_usd=1, enforce_hard_cap=True, hard_cap_mode="block")
    await spend(api, admin, line("1"))
    return lambda: admin.post(f"/v1/corpora/{corpus}/search", json={"query": "what?"})


async def it_is_shed(api: Api) -> Asked:
    admin = await under(api, objectives={"p95_ms_max": {"read": 1000}})
    reader = await api.person("reader", admin.tenant)
    await standing(api, admin, "breached", "shed", "read")
    return lambda: reader.get("/v1/corpora")


class _Warned:
    """A run's answer by whether its stream tells a warning."""

    is_error = True

    def __init__(self, answer: Any) -> None:
        self.status_code = answer.status_code
        self._warning = "sla.warn" if "event: sla.warn" in answer.text else ""

    def json(self) -> Any:
        return {"error": {"code": self._warning}}


async def its_policy_warns(api: Api) -> Asked:
    admin = await under(api)
    await standing(api, admin, "warning", "warn")
    body = {"session_id": new_id("s"), "corpus_id": await admin.corpus(), "message": "What?"}

    async def ask() -> Any:
        return _Warned(await admin.post("/v1/run", json=body))

    return ask


async def _write(person: Person, written: dict[str, Any]) -> None:
    assert (await person.post(PATH, json=written)).status_code == 201


# Each stage, a request that it decides, and what the request gets.
STAGES: dict[str, tuple[Made, tuple[int, str]]] = {
    "address": (an_address_floods, (429, "RATE_LIMITED")),
    "authenticate": (nobody_asks, (401, "AUTH_UNAUTHORIZED")),
    "tenant boundary": (a_foreign_tenant_is_named, (404, "NOT_FOUND")),
    "service level": (it_is_shed, (503, "SLA_SHED_LOAD")),
    "switches": (it_is_switched_off, (503, "FEATURE_TEMPORARILY_DISABLED")),
    "rate limit": (nothing_is_left, (402, "QUOTA_EXCEEDED")),
    "role": (a_reader_writes, (403, "AUTH_FORBIDDEN")),
    "entitlement": (the_plan_lacks_it, (403, "FEATURE_NOT_ENABLED")),
    "policies": (a_policy_denies_the_kind, (403, "AUTHZ_DENIED")),
    "tenant boundary of the body": (a_body_names_a_foreign_tenant, (422, "TENANT_ID_NOT_ALLOWED")),
    "load": (a_corpus_is_read, (200, "")),
    "document permissions": (a_colleague_reads, (404, "NOT_FOUND")),
    "policies of the resource": (a_policy_denies_the_resource, (403, "AUTHZ_DENIED")),
    "idempotency": (it_is_sent_again, (201, "")),
    "bulkhead": (all_places_are_taken, (503, "SERVICE_BUSY")),
    "quota": (nothing_is_left, (402, "QUOTA_EXCEEDED")),
    "cost": (its_budget_is_spent, (402, "COST_BUDGET_EXCEEDED")),
    "mitigation": (its_policy_warns, (200, "sla.warn")),
}


def test_every_stage_has_a_request() -> None:
    assert list(STAGES) == [stage.name for stage in (*PIPELINE.before, *PIPELINE.within)]


@pytest.mark.parametrize("name", STAGES)
async def test_a_request_is_answered_otherwise_without(api: Api, name: str) -> None:
    made, due = STAGES[name]
    ask = await made(api)
    assert outcome(await ask()) == due
    with without_stage(api.app, name):
        assert outcome(await ask()) != due
    assert outcome(await ask()) == due
