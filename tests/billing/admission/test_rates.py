"""Rates: both buckets or neither, by the class of the route however its path is written, told in full to whoever is refused."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from nexusrag.billing.admission.facade import Admission, Admissions
from nexusrag.kernel.ids import new_id
from nexusrag.web.call import CallContext
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited
from tests.web.wire import send_raw


def refused(answer: httpx.Response) -> tuple[str, str]:
    """Scope and class of a refusal, after checking that headers and body agree."""
    assert error_of(answer) == ("RATE_LIMITED", 429)
    details, headers = answer.json()["error"]["details"], answer.headers
    assert set(details) == {"scope", "route_class", "retry_after_ms"}
    assert headers["X-RateLimit-Scope"] == details["scope"]
    assert headers["X-RateLimit-Route-Class"] == details["route_class"]
    assert int(headers["X-RateLimit-Retry-After-Ms"]) == details["retry_after_ms"] > 0
    seconds = int(headers["Retry-After"])
    assert seconds == max(1, -(-details["retry_after_ms"] // 1000))
    return details["scope"], details["route_class"]


async def emptied(person: Person, path: str, times: int) -> httpx.Response:
    for _ in range(times):
        assert (await person.get(path)).status_code == 200
    return await person.get(path)


async def test_a_key_has_its_burst_and_then_waits(rated: Api) -> None:
    person = await rated.person()
    assert refused(await emptied(person, "/v1/corpora", 4)) == ("api_key", "read")


async def test_a_burst_at_once_is_not_exceeded(rated: Api) -> None:
    person = await rated.person()
    answers = await asyncio.gather(*(person.get("/v1/corpora") for _ in range(40)))
    assert sum(answer.status_code == 200 for answer in answers) == 4


async def test_what_one_bucket_refuses_takes_nothing_from_the_other(rated: Api) -> None:
    greedy = await rated.person()
    other = await rated.person(tenant=greedy.tenant)
    assert refused(await emptied(greedy, "/v1/corpora", 4)) == ("api_key", "read")
    for _ in range(10):
        assert refused(await greedy.get("/v1/corpora")) == ("api_key", "read")
    # The tenant's bucket had 6: 4 went to the first, none to its refusals.
    assert refused(await emptied(other, "/v1/corpora", 2)) == ("tenant", "read")
    for _ in range(10):
        assert refused(await other.get("/v1/corpora")) == ("tenant", "read")


async def test_tenants_do_not_share(rated: Api) -> None:
    one, another = await rated.person(), await rated.person()
    await emptied(one, "/v1/corpora", 4)
    assert (await another.get("/v1/corpora")).status_code == 200


async def test_classes_do_not_share(rated: Api) -> None:
    person = await rated.person()
    await emptied(person, "/v1/corpora", 4)
    assert (await person.post("/v1/corpora", json={"name": "Corpus"})).status_code == 201
    assert (await person.get("/v1/ops/health")).status_code == 200


async def test_a_path_is_of_the_class_of_its_route_however_it_is_written(rated: Api) -> None:
    person = await rated.person()
    for path in ("/v1/corpora", "/corpora", "/v1%2fcorpora", "/v1/corpor%61"):
        answer = await send_raw(rated.base_url, f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {person.key}\r\n\r\n".encode())
        assert answer.status == 200, path
    assert refused(await person.get("/v1/corpora")) == ("api_key", "read")


async def test_another_method_is_no_way_round(rated: Api) -> None:
    person = await rated.person()
    await emptied(person, "/v1/corpora", 4)
    assert (await person.client.head("/v1/corpora")).status_code == 405
    assert (await person.client.options("/v1/corpora")).status_code == 405


async def test_an_alias_refuses_in_its_own_shape(rated: Api) -> None:
    person = await rated.person()
    answer = await emptied(person, "/corpora", 4)
    body = answer.json()
    assert set(body) == {"detail"} and answer.status_code == 429
    assert set(body["detail"]) == {"code", "message", "scope", "route_class", "retry_after_ms"}
    assert (body["detail"]["code"], body["detail"]["scope"]) == ("RATE_LIMITED", "api_key")
    assert answer.headers["Deprecation"] == "true" and int(answer.headers["Retry-After"]) >= 1


async def test_a_run_takes_one_token(rated: Api) -> None:
    person = await rated.person()
    corpus = await person.corpus()
    for _ in range(2):
        body = {"session_id": new_id("s"), "corpus_id": corpus, "message": "What?"}
        assert (await person.post("/v1/run", json=body)).status_code == 200
    assert refused(await person.post("/v1/run", json=body)) == ("api_key", "run")


async def test_logging_in_again_brings_no_new_bucket(rated: Api) -> None:
    person = await rated.person()
    invited = await person.post("/v1/admin/identity/invitations", json={"email": f"{new_id('p')}@example.org", "role": "reader"})
    assert invited.status_code == 201, invited.text
    registration = {"invitation_token": invited.json()["data"]["token"], "password": "a long enough password"}
    registration["email"] = invited.json()["data"]["email"]
    first = await rated.anonymous().post("/v1/auth/register", json=registration)
    assert first.status_code == 201, first.text
    login = {"email": registration["email"], "password": registration["password"]}
    again = await rated.anonymous().post("/v1/auth/login", json=login)
    statuses = []
    for made in (first, again):
        client = rated.client(made.json()["data"]["access_token"])
        statuses += [(await client.get("/v1/corpora")).status_code for _ in range(3)]
    assert statuses == [200, 200, 200, 200, 429, 429]


async def test_a_refused_flood_is_on_record_once_a_minute(rated: Api) -> None:
    person = await rated.person()
    await asyncio.gather(*(person.get("/v1/corpora") for _ in range(60)))
    (event,) = await audited(rated, person.tenant, "security.rate_limited")
    assert (event["actor_id"], event["error_code"], event["outcome"]) == (person.key_id, "RATE_LIMITED", "failure")
    told = json.loads(event["metadata"])
    assert (told["scope"], told["route_class"]) == ("api_key", "read")


async def test_who_has_not_the_role_spends_tokens_too(rated: Api) -> None:
    reader = await rated.person("reader")
    statuses = [(await reader.post("/v1/corpora", json={"name": "Corpus"})).status_code for _ in range(4)]
    assert statuses == [403, 403, 403, 429]


@contextmanager
def counted_admissions(api: Api) -> Iterator[list[CallContext]]:
    """The requests that come as far as admission."""
    admissions, calls = api.resources.get(Admissions), list[CallContext]()
    asked = admissions.admit

    async def counted(call: CallContext) -> Admission:
        calls.append(call)
        return await asked(call)

    admissions.admit = counted  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        del admissions.admit


async def test_whoever_is_refused_again_is_not_told_by_redis(rated: Api) -> None:
    """As the same bucket cannot have a token yet, and to ask costs more than the answer: neither Redis nor the pipeline hears of it."""
    person = await rated.person()
    answer = await emptied(person, "/v1/corpora", 4)
    with counted_admissions(rated) as calls:
        again = [await person.get("/v1/corpora", headers={"X-Request-Id": f"mine-{number}"}) for number in range(5)]
        assert {refused(one) for one in again} == {("api_key", "read")}
        assert [one.json()["meta"]["request_id"] for one in again] == [f"mine-{number}" for number in range(5)]
        assert not calls
        waits = [one.json()["error"]["details"]["retry_after_ms"] for one in (answer, *again)]
        assert waits == sorted(waits, reverse=True)
        assert refused(await person.get("/v1/corpora/none")) == ("api_key", "read")  # another path: nobody knows its bucket yet
        assert len(calls) == 1


@pytest.mark.parametrize("is_on_record", [True, False])
async def test_whoever_takes_the_last_token_is_refused_at_once_when_it_is_on_record(rated: Api, is_on_record: bool) -> None:
    person = await rated.person()
    if is_on_record:
        await emptied(person, "/v1/corpora", 4)
    for _ in range(3):
        assert (await person.post("/v1/corpora", json={"name": "Corpus"})).status_code == 201
    with counted_admissions(rated) as calls:
        assert refused(await person.post("/v1/corpora", json={"name": "Corpus"})) == ("api_key", "mutation")
        assert bool(calls) is not is_on_record
    assert len(await audited(rated, person.tenant, "security.rate_limited")) == 1
