"""Units of requests: counted once for what was done, exactly up to the hard cap, and shown on every successful answer."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from nexusrag.billing.admission import repository, service
from nexusrag.billing.admission.facade import Admissions
from nexusrag.billing.admission.store import Decision, Lease, Store
from nexusrag.billing.ledger import repository as ledger
from nexusrag.billing.ledger.facade import Caps, count_directly
from nexusrag.billing.quotas import service as quotas
from nexusrag.infra.database import Database
from nexusrag.infra.redis import Redis
from nexusrag.kernel.ids import new_id
from nexusrag.web.call import Outcome
from tests.billing.admission.conftest import limit, used
from tests.support.api import Api, Person, error_of
from tests.support.behind import Held, audited, rows
from tests.support.installation import Servers
from tests.support.soon import soon

WINDOWS = "select plain_units, direct_units, units + held_units as entries from usage_periods where tenant_id = $1 order by period"


def exceeded(answer: httpx.Response) -> dict[str, Any]:
    assert error_of(answer) == ("QUOTA_EXCEEDED", 402)
    details: dict[str, Any] = answer.json()["error"]["details"]
    assert set(details) == {"period", "limit", "used", "remaining"}
    return details


async def asked(person: Person) -> dict[str, Any]:
    return {"session_id": new_id("s"), "corpus_id": await person.corpus(), "message": "What?"}


async def test_every_successful_answer_says_what_is_left(counted: Api) -> None:
    person = await counted.person()
    await limit(counted, person.tenant, daily_requests_limit=10, monthly_requests_limit=20, soft_cap_ratio=0.2, hard_cap_enabled=True)
    shown = {name: value for name, value in (await person.get("/v1/corpora")).headers.items() if name.startswith("x-quota")}
    assert shown == {
        "x-quota-day-limit": "10", "x-quota-day-used": "1", "x-quota-day-remaining": "9",
        "x-quota-month-limit": "20", "x-quota-month-used": "1", "x-quota-month-remaining": "19",
        "x-quota-softcap-reached": "false", "x-quota-hardcap-mode": "enforce",
    }  # fmt: skip
    again = (await person.get("/v1/corpora")).headers
    assert (again["X-Quota-Day-Used"], again["X-Quota-SoftCap-Reached"]) == ("2", "true")


async def test_without_a_limit_there_is_none_to_show(counted: Api) -> None:
    person = await counted.person()
    headers = (await person.get("/v1/corpora")).headers
    shown = [headers[f"X-Quota-{name}"] for name in ("Day-Limit", "Day-Used", "Month-Remaining")]
    assert shown == ["unlimited", "1", "unlimited"]


async def test_a_run_counts_three_and_says_so_on_its_stream(counted: Api) -> None:
    person = await counted.person()
    body = await asked(person)
    before = await used(person)
    answer = await person.post("/v1/run", json=body)
    assert answer.status_code == 200
    assert int(answer.headers["X-Quota-Day-Used"]) == before[0] + 3
    assert await used(person) == (before[0] + 3, before[1] + 3)


async def test_many_at_once_get_exactly_the_hard_cap(counted: Api) -> None:
    person = await counted.person()
    await limit(counted, person.tenant, daily_requests_limit=25, hard_cap_enabled=True)
    answers = await asyncio.gather(*(person.get("/v1/corpora") for _ in range(80)))
    assert sum(answer.status_code == 200 for answer in answers) == 25
    details = exceeded(next(answer for answer in answers if answer.status_code != 200))
    assert details == {"period": "day", "limit": 25, "used": 25, "remaining": 0}
    assert (await used(person))[0] == 25
    assert 1 <= len(await audited(counted, person.tenant, "quota.hard_cap_blocked")) <= 20


async def test_a_run_of_three_units_does_not_fit_into_two(counted: Api) -> None:
    person = await counted.person()
    body = await asked(person)
    have = (await used(person))[1]
    operator = await counted.operator()
    patched = await operator.patch(f"/v1/admin/quotas/{person.tenant}", json={"monthly_requests_limit": have + 2})
    assert patched.status_code == 200, patched.text
    assert exceeded(await person.post("/v1/run", json=body)) == {"period": "month", "limit": have + 2, "used": have, "remaining": 2}
    assert (await used(person))[1] == have
    assert (await person.get("/v1/corpora")).headers["X-Quota-Month-Remaining"] == "1"


async def test_a_limit_below_what_was_used_leaves_nothing_and_no_less(counted: Api) -> None:
    person = await counted.person()
    for _ in range(3):
        await person.get("/v1/corpora")
    operator = await counted.operator()
    assert (await operator.patch(f"/v1/admin/quotas/{person.tenant}", json={"daily_requests_limit": 1})).status_code == 200
    assert exceeded(await person.get("/v1/corpora")) == {"period": "day", "limit": 1, "used": 3, "remaining": 0}
    assert (await person.get("/v1/admin/plans")).headers["X-Quota-Day-Remaining"] == "0"


async def test_what_fails_gives_its_units_back(counted: Api) -> None:
    person = await counted.person()
    assert (await person.get("/v1/corpora/none")).status_code == 404
    assert (await person.post("/v1/corpora", json={"name": 1})).status_code == 422
    assert (await person.post("/v1/run", json={"session_id": "s", "corpus_id": "none", "message": "What?"})).status_code == 404
    assert await used(person) == (0, 0)


async def test_a_replay_is_not_charged_even_when_nothing_is_left(counted: Api) -> None:
    person = await counted.person()
    await limit(counted, person.tenant, daily_requests_limit=2, hard_cap_enabled=True)
    key, body = {"Idempotency-Key": new_id("k")}, {"name": "Corpus"}
    first = await person.post("/v1/corpora", json=body, headers=key)
    second = await person.post("/v1/corpora", json=body, headers=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert (second.headers["Idempotency-Replayed"], second.headers["X-Quota-Day-Used"]) == ("true", "1")
    assert (await person.get("/v1/corpora")).status_code == 200
    assert exceeded(await person.get("/v1/corpora"))["used"] == 2
    replayed = await person.post("/v1/corpora", json=body, headers=key)
    assert (replayed.status_code, replayed.headers["Idempotency-Replayed"]) == (201, "true")


async def test_a_run_that_is_replayed_or_read_again_is_not_charged(counted: Api) -> None:
    person = await counted.person()
    body, key = await asked(person), {"Idempotency-Key": new_id("k")}
    first = await person.post("/v1/run", json=body, headers=key)
    before = await used(person)
    assert (await person.post("/v1/run", json=body, headers=key)).text == first.text
    last = first.text.rsplit("id: ", 1)[1].split("\n", 1)[0].rpartition(".")[0]
    assert (await person.post("/v1/run", json=body, headers={"Last-Event-ID": f"{last}.1"})).status_code == 200
    assert await used(person) == before


async def test_a_cap_that_observes_lets_pass_and_tells_once(counted: Api) -> None:
    person = await counted.person()
    await limit(counted, person.tenant, daily_requests_limit=3, hard_cap_enabled=False)
    answers = await asyncio.gather(*(person.get("/v1/corpora") for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["X-Quota-HardCap-Mode"] for answer in answers} == {"observe"}
    assert await used(person) == (12, 12)
    assert len(await audited(counted, person.tenant, "quota.overage_observed")) == 1


async def test_a_soft_cap_is_told_once_whoever_reaches_it(counted: Api) -> None:
    person = await counted.person()
    await limit(counted, person.tenant, daily_requests_limit=100, soft_cap_ratio=0.05, hard_cap_enabled=True)
    await asyncio.gather(*(person.get("/v1/corpora") for _ in range(30)))
    (event,) = await audited(counted, person.tenant, "quota.soft_cap_reached")
    told = json.loads(event["metadata"])
    assert (told["period"], told["limit"]) == ("day", 100)


async def test_what_redis_counted_is_in_the_database_within_two_seconds(counted: Api) -> None:
    person = await counted.person()
    for _ in range(4):
        await person.get("/v1/corpora")
    await person.get("/v1/corpora/none")

    async def written() -> Any:
        return [(row["plain_units"], row["entries"]) for row in await rows(counted, WINDOWS, person.tenant)]

    await soon(written, [(4, 0), (4, 0)], within_s=3)


async def test_what_redis_forgets_is_loaded_before_it_admits(counted: Api) -> None:
    person = await counted.person()
    await limit(counted, person.tenant, daily_requests_limit=8, hard_cap_enabled=True)
    body = await asked(person)
    assert (await person.post("/v1/run", json=body)).status_code == 200
    assert await used(person) == (4, 4)

    async def written() -> Any:
        return [row["plain_units"] for row in await rows(counted, WINDOWS, person.tenant)]

    await soon(written, [1, 1], within_s=3)
    await forget(counted)
    answers = await asyncio.gather(*(person.get("/v1/corpora") for _ in range(20)))
    assert sum(answer.status_code == 200 for answer in answers) == 4
    assert await used(person) == (8, 8)


async def test_what_redis_loses_before_it_was_written_counts_and_is_shown(counted: Api) -> None:
    person = await counted.person()
    await limit(counted, person.tenant, daily_requests_limit=8, hard_cap_enabled=True)
    async with counted.resources.get(Database).work(None) as work:

        async def nobody_writes() -> bool:
            return await repository.alone(work)

        await soon(nobody_writes, True)
        for _ in range(4):
            await person.get("/v1/corpora")
        assert (await person.get("/v1/corpora/none")).status_code == 404  # given back
        assert await rows(counted, WINDOWS, person.tenant) == []
        await forget(counted)
        answers = await asyncio.gather(*(person.get("/v1/corpora") for _ in range(20)))
    assert sum(answer.status_code == 200 for answer in answers) == 4
    assert await used(person) == (8, 8)

    async def written() -> list[int]:
        return [row["plain_units"] for row in await rows(counted, WINDOWS, person.tenant)]

    await soon(written, [8, 8], within_s=5)


async def test_each_process_tells_what_it_remembers_before_it_admits_and_within_a_second(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, day, rates = new_id("t"), date(2027, 6, 30), servers.with_env(RL_REDIS_PREFIX=new_id("test")).rates
    redis = [Redis(servers.settings.stores, budget_s=10) for _ in range(3)]
    one, other, idle = (Store(each, rates) for each in redis)

    async def ask(store: Store, units: int = 1) -> Decision | None:
        lease = Lease.new(tenant, day, units, run=False)
        return await store.admit(lease, buckets=("a", "b"), rates=None, most=0, limits=(None, None), must_know=True)

    async def load(store: Store) -> None:
        await store.load(tenant, day, (80, 180), (0, 0))  # what PostgreSQL has

    async def admitted(store: Store) -> tuple[int, int]:
        if (decision := await ask(store)) is None:
            await load(store)
            decision = await ask(store)
        assert decision is not None
        return decision.day_used, decision.month_used

    for store in (idle, other, one):
        await store.beat()
    assert [await admitted(store) for store in (one, other, one, idle, other)][-1] == (85, 185)
    await forget_all(redis[0], rates.rl_redis_prefix)
    assert await admitted(one) == (84, 184), "its own, which were 83"
    assert await ask(other) is None, "it was admitted before it told"
    await idle.beat()
    assert await admitted(one) == (85, 185)
    told: list[str] = []

    async def tell(begin: str) -> None:
        told.append(begin)
        await Store._tell(other, begin)

    monkeypatch.setattr(other, "_tell", tell)
    assert sorted(await asyncio.gather(admitted(other), admitted(other))) == [(86, 186), (87, 187)]
    assert told == [""], "once, however many of its requests wait for it"
    for each in redis:
        await each.close()


async def test_a_script_that_redis_forgets_is_sent_again(counted: Api) -> None:
    person = await counted.person()
    await person.get("/v1/corpora")
    await counted.resources.get(Redis).client.script_flush()
    answer = await person.get("/v1/corpora")
    assert answer.status_code == 200 and "X-RateLimit-Status" not in answer.headers
    assert await used(person) == (2, 2)


@pytest.mark.slow
async def test_units_that_a_dead_process_took_for_a_run_come_back(counted: Api) -> None:
    """It died between admission and the ledger: Redis has a run that nobody else knows of, and its lease has run out."""
    person = await counted.person()
    await person.get("/v1/corpora")
    redis, prefix = counted.resources.get(Redis).client, counted.resources.get(Admissions).store._prefix
    day = (await redis.keys(f"{prefix}:units:{person.tenant}:????????"))[0].decode()
    await redis.hincrby(day, "r", 3)
    await redis.hincrby(day[:-2], "r", 3)
    await redis.zadd(f"{prefix}:due", {f"{person.tenant}|{day[-8:-4]}-{day[-4:-2]}-{day[-2:]}": 0})

    async def shown() -> tuple[int, int]:
        return await used(person)

    assert await shown() in ((4, 4), (1, 1))
    await soon(shown, (1, 1), within_s=5)


async def test_days_and_months_begin_at_midnight_utc(counted: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    person, now = await counted.person(), [datetime(2028, 2, 28, 23, 59, 59, tzinfo=UTC)]
    monkeypatch.setattr(service, "clock", SimpleNamespace(now=lambda: now[0]))

    async def asked_twice() -> tuple[str, str]:
        for _ in range(2):
            headers = (await person.get("/v1/corpora")).headers
        return headers["X-Quota-Day-Used"], headers["X-Quota-Month-Used"]

    assert await asked_twice() == ("2", "2")
    now[0] += timedelta(seconds=1)  # a leap year
    assert await asked_twice() == ("2", "4")
    now[0] += timedelta(days=1)
    assert await asked_twice() == ("2", "2")

    async def written() -> Any:
        found = await rows(counted, "select period, starts_on, plain_units from usage_periods where tenant_id = $1", person.tenant)
        return sorted((str(row["starts_on"]), row["period"], row["plain_units"]) for row in found)

    await soon(
        written,
        [
            ("2028-02-01", "month", 4), ("2028-02-28", "day", 2), ("2028-02-29", "day", 2), ("2028-03-01", "day", 2),
            ("2028-03-01", "month", 2),
        ],
        within_s=4,
    )  # fmt: skip


async def test_what_failed_after_midnight_is_given_back_to_the_day_that_it_counted_for(
    counted: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, now = await counted.person(), [datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC)]
    monkeypatch.setattr(service, "clock", SimpleNamespace(now=lambda: now[0]))
    await person.get("/v1/corpora")
    corpus = (await person.post("/v1/corpora", json={"name": "Corpus"})).json()["data"]["id"]
    text = {"corpus_id": corpus, "text": "words", "document_id": "d1"}
    assert (await person.post("/v1/documents/text", json=text)).status_code == 202
    async with Held(counted, person.tenant) as held:
        again = asyncio.create_task(person.delete(f"/v1/corpora/{corpus}"))  # refused: nobody has worked on the document
        await held.waiting()
        now[0] += timedelta(seconds=1)
    assert (await again).status_code == 409
    assert (await used(person)) == (0, 0)
    now[0] -= timedelta(seconds=1)
    assert (await used(person)) == (3, 3)


async def test_a_soft_cap_is_told_of_the_day_that_reached_it_though_the_request_ends_in_the_next(
    counted: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, now = await counted.person(), [datetime(2027, 6, 30, 23, 59, 59, tzinfo=UTC)]
    await limit(counted, person.tenant, daily_requests_limit=4, soft_cap_ratio=0.5)
    for module in (service, quotas, ledger):
        monkeypatch.setattr(module, "clock", SimpleNamespace(now=lambda: now[0]))
    corpus = await person.corpus()
    async with Held(counted, person.tenant) as held:
        last = asyncio.create_task(person.post("/v1/documents/text", json={"corpus_id": corpus, "text": "words"}))
        await held.waiting()
        now[0] += timedelta(seconds=1)
    assert (await last).status_code == 202
    marked = "select starts_on from usage_periods where tenant_id = $1 and period = 'day' and soft_cap_at is not null"

    async def told() -> list[str]:
        return [str(row["starts_on"]) for row in await rows(counted, marked, person.tenant)]

    await soon(told, ["2027-06-30"], within_s=4)


async def test_units_that_were_counted_without_redis_are_given_back_to_their_day(counted: Api) -> None:
    person, admissions = await counted.person(), counted.resources.get(Admissions)
    lease, today = Lease.new(person.tenant, date(2027, 6, 30), 1, run=False), datetime.now(UTC).date()
    async with counted.resources.get(Database).work(person.tenant) as work:
        for day in (30, 29):
            await count_directly(work, 1, Caps(), datetime(2027, 6, day, 12, tzinfo=UTC))
        await count_directly(work, 1, Caps())
    await admissions._end_directly(service.Taken(lease), Outcome(404, None, False))
    found = await rows(
        counted, "select starts_on, direct_units from usage_periods where tenant_id = $1 and period = 'day' order by 1", person.tenant
    )
    assert {str(row["starts_on"]): row["direct_units"] for row in found} == {"2027-06-29": 1, "2027-06-30": 0, str(today): 1}


async def test_what_a_dead_process_took_comes_back_though_its_lease_is_found_while_units_are_not_known(counted: Api) -> None:
    person, store = await counted.person(), counted.resources.get(Admissions).store
    redis, day = counted.resources.get(Redis).client, datetime.now(UTC).date()
    await person.get("/v1/corpora")

    async def ask(*, units: int, must_know: bool) -> Decision | None:
        lease = Lease.new(person.tenant, day, units, run=False)
        free = (None, None)
        return await store.admit(lease, buckets=("a", "b"), rates=None, most=0, limits=free, must_know=must_know)

    taken = await ask(units=1, must_know=True)
    assert taken is not None and taken.day_used == 2
    ((member, _),) = await redis.zrange(store._leases(person.tenant), 0, -1, withscores=True)
    await redis.zadd(store._leases(person.tenant), {member: 1})  # it ran out
    await redis.hset(store._units(person.tenant, day)[0], "e", "another epoch")
    await ask(units=0, must_know=False)  # an operator's view
    await counted.resources.get(Admissions).load(person.tenant, day)
    asked = await ask(units=0, must_know=True)
    assert asked is not None and asked.day_used == 1


async def forget(api: Api) -> None:
    """As after FLUSHALL, for this installation alone."""
    await forget_all(api.resources.get(Redis), api.resources.get(Admissions).store._prefix)


async def forget_all(redis: Redis, prefix: str) -> None:
    async for key in redis.client.scan_iter(f"{prefix}:*"):
        await redis.client.delete(key)
