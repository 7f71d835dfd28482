"""A tenant has so many requests under way at once, in all processes, streams included; their places come back however they end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from time import monotonic

import pytest

from nexusrag.billing.admission import service
from nexusrag.billing.admission.facade import Admissions
from nexusrag.billing.admission.store import LEASE_S, Lease
from nexusrag.billing.admission.upkeep import Upkeep
from nexusrag.infra.redis import Redis, RedisAwayError
from nexusrag.kernel import clock
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
    assert await taken(narrow, person) == 0


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


@pytest.mark.parametrize("answered", [True, False])
async def test_a_lease_that_a_renewal_has_revived_ends_again(narrow: Api, monkeypatch: pytest.MonkeyPatch, answered: bool) -> None:
    person = await narrow.person()
    admissions = narrow.resources.get(Admissions)
    lease = Lease.new(person.tenant, clock.now().date(), 1, run=False)
    renew = admissions.store.renew

    async def renewed(leases: Sequence[Lease]) -> None:
        await renew(leases)
        del admissions.held[lease.member]  # while Redis was being told
        assert await taken(narrow, person) == 1
        if not answered:
            raise RedisAwayError

    admissions.held[lease.member] = lease
    with monkeypatch.context() as once:
        once.setattr(admissions.store, "renew", renewed)
        with nullcontext() if answered else pytest.raises(RedisAwayError):
            await admissions.renew()
    if not answered:
        await admissions.end_unended()
    assert await taken(narrow, person) == 0


async def test_what_redis_was_not_told_it_is_told_when_the_process_stops(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: Upkeep) -> None:
        """Not before."""

    monkeypatch.setattr(Upkeep, "step", nothing)
    async with limited_by(servers, **RATES) as api:
        person = await api.person()
        admissions = api.resources.get(Admissions)
        leases, store = admissions.store._leases(person.tenant), admissions.store

        async def away(lease: Lease, *, give_back: bool) -> None:
            raise RedisAwayError

        with monkeypatch.context() as once:
            once.setattr(store, "end", lambda _, missed: missed())
            once.setattr(store, "release", away)
            assert (await person.get("/v1/corpora")).status_code == 200
            assert (await person.get("/v1/corpora/none")).status_code == 404  # whose units go back
        assert await taken(api, person) == 2
    redis = Redis(servers.settings.stores)
    assert await redis.client.zcard(leases) == 0
    await redis.close()


async def test_what_redis_was_not_told_is_forgotten_when_it_has_run_out(narrow: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    admissions = narrow.resources.get(Admissions)
    old, new = (Lease.new("t-none", clock.now().date(), 1, run=False) for _ in range(2))
    admissions._end_later(old, True)
    monkeypatch.setattr(service, "monotonic", lambda: monotonic() + 2 * LEASE_S + 1)
    admissions._end_later(new, True)
    assert old.member not in admissions._unended and new.member in admissions._unended


async def test_whoever_asks_next_elsewhere_finds_the_place_free(servers: Servers) -> None:
    limits = {"TENANT_MAX_CONCURRENCY": "1", **RATES}
    async with limited_by(servers, **limits) as one, limited_by(servers, **limits) as other:
        person = await one.person()
        async with person.at(other.base_url) as elsewhere:
            for _ in range(20):
                for here in (person, elsewhere):
                    assert (await here.get("/v1/corpora")).status_code == 200


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
    await admissions.renew()
    assert await taken(narrow, person) == 0
