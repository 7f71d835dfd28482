"""A tenant has so many requests under way at once, in all processes, streams included; their places come back however they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from nexusrag.billing.admission.facade import Admissions
from nexusrag.infra.redis import Redis
from nexusrag.kernel.ids import new_id
from tests.billing.admission.conftest import limited_by
from tests.support.api import Api, Person
from tests.support.behind import Held
from tests.support.installation import Servers
from tests.support.soon import soon

RATES = {f"RL_{of}_{name}_{what}": "10000" for of in ("KEY", "TENANT") for name in ("READ", "MUTATION", "RUN") for what in ("RPS", "BURST")}


@pytest.fixture(scope="module")
async def narrow(servers: Servers) -> AsyncIterator[Api]:
    """Two requests of a tenant at once."""
    async with limited_by(servers, TENANT_MAX_CONCURRENCY="2", **RATES) as api:
        yield api


@asynccontextmanager
async def under_way(api: Api, person: Person, corpus: str, count: int) -> AsyncIterator[list["asyncio.Task[int]"]]:
    """So many uploads that have their places and get no further."""

    async def upload() -> int:
        return (await person.post("/v1/documents/text", json={"corpus_id": corpus, "text": "words"})).status_code

    async with Held(api, person.tenant):
        tasks = [asyncio.create_task(upload()) for _ in range(count)]
        await soon(partial(taken, api, person), count, within_s=5)
        yield tasks
    assert [await task for task in tasks] == [202] * count


async def taken(api: Api, person: Person) -> int:
    store = api.resources.get(Admissions).store
    return int(await api.resources.get(Redis).client.zcard(store._leases(person.tenant)))


async def test_a_tenant_that_has_its_places_taken_waits(narrow: Api) -> None:
    person = await narrow.person()
    corpus = await person.corpus()
    async with under_way(narrow, person, corpus, 2):
        refused = await person.get("/v1/corpora")
        scope, wait = refused.headers["X-RateLimit-Scope"], refused.headers["Retry-After"]
        assert (refused.status_code, scope, wait) == (429, "tenant_concurrency", "1")
        assert (await (await narrow.person()).get("/v1/corpora")).status_code == 200
        # Operators look at what is wrong without a place.
        assert (await person.get("/v1/ops/health")).status_code == 200
    assert (await person.get("/v1/corpora")).status_code == 200
    await soon(partial(taken, narrow, person), 0, within_s=5)


async def test_a_stored_answer_needs_no_place(narrow: Api) -> None:
    person = await narrow.person()
    key = {"Idempotency-Key": new_id("k")}
    made = await person.post("/v1/corpora", json={"name": "Corpus"}, headers=key)
    async with under_way(narrow, person, made.json()["data"]["id"], 2):
        again = await person.post("/v1/corpora", json={"name": "Corpus"}, headers=key)
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")


async def test_a_place_comes_back_however_the_request_ends(narrow: Api) -> None:
    person = await narrow.person()
    corpus = await person.corpus()
    run = {"session_id": new_id("s"), "corpus_id": corpus, "message": "What?"}
    assert (await person.post("/v1/run", json=run)).status_code == 200
    assert (await person.get("/v1/corpora/none")).status_code == 404
    assert (await person.post("/v1/corpora", content=b"nonsense")).status_code in (400, 415, 422)
    with pytest.raises(TimeoutError):
        async with Held(narrow, person.tenant), asyncio.timeout(0.2):
            await person.post("/v1/documents/text", json={"corpus_id": corpus, "text": "words"})
    await soon(partial(taken, narrow, person), 0, within_s=5)


async def test_a_lease_that_a_renewal_has_revived_ends_again(narrow: Api) -> None:
    person = await narrow.person()
    corpus = await person.corpus()
    admissions = narrow.resources.get(Admissions)
    async with under_way(narrow, person, corpus, 1):
        (lease,) = (lease for lease in admissions.held.values() if lease.tenant_id == person.tenant)
    await soon(partial(taken, narrow, person), 0, within_s=5)
    admissions.held[lease.member] = lease
    renewing = asyncio.create_task(admissions.renew())
    await asyncio.sleep(0)
    del admissions.held[lease.member]  # while Redis is being told
    await renewing
    assert await taken(narrow, person) == 0


async def test_leases_are_renewed_while_their_requests_last(narrow: Api) -> None:
    person = await narrow.person()
    corpus = await person.corpus()
    admissions, redis = narrow.resources.get(Admissions), narrow.resources.get(Redis).client
    leases = admissions.store._leases(person.tenant)
    async with under_way(narrow, person, corpus, 1):
        ((member, until),) = await redis.zrange(leases, 0, -1, withscores=True)
        await redis.delete(leases)
        await admissions.renew()
        ((again, later),) = await redis.zrange(leases, 0, -1, withscores=True)
        assert again == member and later > until
    await soon(partial(taken, narrow, person), 0, within_s=5)
    await admissions.renew()
    assert await taken(narrow, person) == 0
