"""Each stage of the pipeline is missed: without it, a request gets another answer than the suite demands. A new stage needs a request."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nexusrag.infra.bulkheads import Bulkheads
from nexusrag.kernel.features import Feature
from nexusrag.kernel.ids import new_id
from nexusrag.pipeline import PIPELINE
from tests.access.test_policies import PATH, policy
from tests.support.api import Api, Person
from tests.support.behind import rows
from tests.support.pipelines import without_stage

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
        slots = [bulkhead.acquire() for _ in range(bulkhead.limit - bulkhead.taken)]
        try:
            return await person.post("/v1/run", json=body | {"session_id": new_id("s")})
        finally:
            for slot in slots:
                slot.release()

    return run


async def _write(person: Person, written: dict[str, Any]) -> None:
    assert (await person.post(PATH, json=written)).status_code == 201


# Each stage, a request that it decides, and what the request gets.
STAGES: dict[str, tuple[Made, tuple[int, str]]] = {
    "authenticate": (nobody_asks, (401, "AUTH_UNAUTHORIZED")),
    "tenant boundary": (a_foreign_tenant_is_named, (404, "NOT_FOUND")),
    "role": (a_reader_writes, (403, "AUTH_FORBIDDEN")),
    "entitlement": (the_plan_lacks_it, (403, "FEATURE_NOT_ENABLED")),
    "policies": (a_policy_denies_the_kind, (403, "AUTHZ_DENIED")),
    "tenant boundary of the body": (a_body_names_a_foreign_tenant, (422, "TENANT_ID_NOT_ALLOWED")),
    "load": (a_corpus_is_read, (200, "")),
    "document permissions": (a_colleague_reads, (404, "NOT_FOUND")),
    "policies of the resource": (a_policy_denies_the_resource, (403, "AUTHZ_DENIED")),
    "idempotency": (it_is_sent_again, (201, "")),
    "bulkhead": (all_places_are_taken, (503, "SERVICE_BUSY")),
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
