"""Maintenance removes what has been kept for long enough, of all tenants, and nothing else; daily, by one worker of many."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nexusrag.domains import DOMAINS
from nexusrag.infra.resources import Resources
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.switches import WRITE_FREEZE
from nexusrag.operations.maintenance import work
from nexusrag.operations.maintenance.tasks import LATER, TASKS
from nexusrag.process import open_process
from nexusrag.worker import crons_of
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, rows
from tests.support.switched import forced

RUN, STATUS = "/v1/admin/maintenance/run", "/v1/admin/retention/status"


@pytest.fixture
async def operator(api: Api) -> Person:
    return await api.operator()


async def run(operator: Person, task: str) -> int:
    answer = await operator.post(RUN, params={"task": task})
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert (data["task"], data["status"]) == (task, "succeeded")
    return int(data["deleted_rows"])


async def key(api: Api, tenant: str, name: str, age: str) -> None:
    await rows(
        api, "insert into idempotency_keys (tenant_id, scope, key, fingerprint, status, expires_at) "
        "values ($1, 's', $2, '', 200, now() - $3::text::interval)", tenant, name, age,
    )  # fmt: skip


async def kept(api: Api, tenant: str) -> set[str]:
    return {row["key"] for row in await rows(api, "select key from idempotency_keys where tenant_id = $1 and scope = 's'", tenant)}


async def test_stored_answers_go_an_hour_after_their_time(api: Api, operator: Person) -> None:
    one, other = await api.person(), await api.person()
    for tenant in (one.tenant, other.tenant):
        for name, age in (("alive", "-1 hour"), ("just over", "1 minute"), ("nearly", "59 minutes"), ("gone", "61 minutes")):
            await key(api, tenant, name, age)
    assert await run(operator, "prune_idempotency") >= 2
    for tenant in (one.tenant, other.tenant):
        assert await kept(api, tenant) == {"alive", "just over", "nearly"}
    assert await run(operator, "prune_idempotency") == 0


async def test_an_answer_that_somebody_holds_is_left_for_the_next_time(api: Api, operator: Person) -> None:
    person = await api.person()
    await key(api, person.tenant, "held", "2 days")
    await key(api, person.tenant, "free", "2 days")
    holder = await api.servers.admin()
    async with holder.transaction():
        await holder.execute("select 1 from idempotency_keys where tenant_id = $1 and key = 'held' for update", person.tenant)
        await run(operator, "prune_idempotency")
        assert await kept(api, person.tenant) == {"held"}
    await holder.close()
    await run(operator, "prune_idempotency")
    assert await kept(api, person.tenant) == set()


async def test_old_events_go_with_their_months(api: Api, operator: Person) -> None:
    person = await api.person()
    await rows(api, "create table audit_events_202001 partition of audit_events for values from ('2020-01-01') to ('2020-02-01')")
    await rows(api, "alter table audit_events_202001 owner to nexusrag_system")  # who makes all others
    event = "insert into audit_events (tenant_id, actor_type, event_type, outcome, occurred_at) values ($1, 'x', $2, 'success', $3)"
    await rows(api, event, person.tenant, "old", datetime(2020, 1, 5, tzinfo=UTC))
    await rows(api, event, person.tenant, "new", datetime.now(UTC))
    assert await run(operator, "prune_audit") >= 1
    assert [len(await audited(api, person.tenant, kind)) for kind in ("old", "new")] == [0, 1]
    assert await count(api, "select count(*) from pg_class where relname = 'audit_events_202001'") == 0
    assert await count(api, "select count(*) from pg_inherits where inhparent = 'audit_events'::regclass") >= 2


async def job(api: Api, tenant: str, kind: str, state: str, days: int) -> str:
    job_id = new_id("job")
    await rows(
        api, "insert into jobs (id, tenant_id, queue, kind, state, max_attempts, run_at, created_at, finished_at) "
        "values ($1, $2, 'none', $3, $4, 1, now() - make_interval(days => $5), now() - make_interval(days => $5), "
        "case when $4 in ('succeeded', 'failed') then now() - make_interval(days => $5) end)", job_id, tenant, kind, state, days,
    )  # fmt: skip
    return job_id


@pytest.mark.parametrize(
    ("task", "kind", "other", "days"),
    [("cleanup_actions", "document.ingest", "blob.x", 30), ("prune_jobs", "blob.x", "document.ingest", 7)],
)
async def test_finished_jobs_go_when_their_time_is_over(api: Api, operator: Person, task: str, kind: str, other: str, days: int) -> None:
    person = await api.person()
    gone = [await job(api, person.tenant, kind, state, days + 1) for state in ("succeeded", "failed")]
    stay = [
        await job(api, person.tenant, kind, "succeeded", days - 1), await job(api, person.tenant, kind, "queued", 400),
        await job(api, person.tenant, other, "succeeded", 400),
    ]  # fmt: skip
    assert await run(operator, task) >= 2
    left = {row["id"] for row in await rows(api, "select id from jobs where tenant_id = $1", person.tenant)}
    assert left == set(stay)
    assert not left & set(gone)


async def test_counters_of_old_periods_go(api: Api, operator: Person) -> None:
    person = await api.person()
    for starts_on in ("2020-01-01", "2020-02-01"):
        await rows(
            api, "insert into usage_periods (tenant_id, period, starts_on) values ($1, 'month', $2::text::date)", person.tenant, starts_on
        )
    await rows(
        api, "insert into usage_periods (tenant_id, period, starts_on) values ($1, 'day', (now() at time zone 'utc')::date)", person.tenant
    )
    assert await run(operator, "prune_usage") >= 2
    assert await count(api, "select count(*) from usage_periods where tenant_id = $1 and starts_on < '2021-01-01'", person.tenant) == 0
    assert await count(api, "select count(*) from usage_periods where tenant_id = $1", person.tenant) >= 1


async def test_more_than_a_batch_goes_batch_by_batch(api: Api, operator: Person) -> None:
    person = await api.person()
    await rows(
        api, "insert into idempotency_keys (tenant_id, scope, key, fingerprint, status, expires_at) "
        "select $1, 's', 'k' || n, '', 200, now() - interval '2 days' from generate_series(1, 12000) n", person.tenant,
    )  # fmt: skip
    assert await run(operator, "prune_idempotency") >= 12000
    assert await kept(api, person.tenant) == set()


@pytest.mark.parametrize("task", sorted(LATER))
async def test_a_task_of_a_later_release_is_refused_in_so_many_words(operator: Person, task: str) -> None:
    answer = await operator.post(RUN, params={"task": task})
    assert error_of(answer) == ("NOT_IMPLEMENTED", 501)
    assert all(name in answer.json()["error"]["message"] for name in TASKS)


@pytest.mark.parametrize("task", ["", "prune_everything", "PRUNE_AUDIT", "x" * 65])
async def test_an_unknown_task_is_refused(operator: Person, task: str) -> None:
    assert error_of(await operator.post(RUN, params={"task": task})) == ("VALIDATION_ERROR", 422)


async def test_nobody_but_operators_runs_a_task(api: Api, operator: Person) -> None:
    assert error_of(await (await api.person()).post(RUN, params={"task": "prune_audit"})) == ("AUTH_FORBIDDEN", 403)


async def test_a_task_is_done_by_one_at_a_time(api: Api, operator: Person) -> None:
    lease = "insert into maintenance_runs (task, leased_until) values ('prune_jobs', now() + $1::text::interval) returning id"
    (busy,) = await rows(api, lease, "1 minute")
    try:
        assert error_of(await operator.post(RUN, params={"task": "prune_jobs"})) == ("CONFLICT", 409)
        await rows(api, "update maintenance_runs set leased_until = now() - interval '1 s' where id = $1", busy["id"])
        assert (await operator.get(STATUS)).json()["data"]["last_run_by_task"]["prune_jobs"]["outcome"] == "failed"
        await run(operator, "prune_jobs")  # whoever was at it has died
    finally:
        await rows(api, "delete from maintenance_runs where id = $1", busy["id"])


async def test_the_status_says_what_is_kept_and_when_it_was_last_looked_through(api: Api, operator: Person) -> None:
    before = datetime.now(UTC)
    await run(operator, "prune_audit")
    data = (await operator.get(STATUS)).json()["data"]
    assert data["tenant_id"] == operator.tenant
    assert data["configured_days"] == {"prune_audit": 90, "cleanup_actions": 30, "prune_usage": 120, "prune_jobs": 7}
    last = data["last_run_by_task"]["prune_audit"]
    assert (last["outcome"], last["deleted_rows"]) == ("succeeded", 0)
    assert datetime.fromisoformat(last["last_run_at"]) >= before - timedelta(seconds=1)
    ahead = datetime.fromisoformat(data["next_schedule"]) - before
    assert timedelta() < ahead <= timedelta(days=1)
    assert set(data["last_run_by_task"]) == set(TASKS)
    # Rows of all tenants are counted: that is for operators to know.
    elsewhere = (await (await api.person()).get(STATUS)).json()["data"]["last_run_by_task"]["prune_audit"]
    assert elsewhere == last | {"deleted_rows": None}
    event = (await audited(api, operator.tenant, "maintenance.task.run"))[-1]
    assert (event["resource_id"], '"deleted_rows": 0' in event["metadata"]) == ("prune_audit", True)


@pytest.fixture
async def workers(api: Api) -> AsyncIterator[list[Resources]]:
    """Two processes that do what workers do daily."""
    settings = api.servers.with_env()
    async with open_process(settings, DOMAINS) as one, open_process(settings, DOMAINS) as other:
        yield [one, other]


async def since(api: Api, moment: datetime) -> list[Any]:
    found = await rows(api, "select task from maintenance_runs where started_at >= $1 and started_by is null order by task", moment)
    return [row["task"] for row in found]


@pytest.mark.slow
async def test_of_many_workers_one_does_each_task_once_a_day(api: Api, workers: list[Resources]) -> None:
    await rows(api, "delete from maintenance_runs")
    before = datetime.now(UTC) - timedelta(seconds=1)
    await asyncio.gather(*(work.daily(one) for one in workers * 3))
    assert await since(api, before) == sorted(TASKS)
    await work.daily(workers[0])
    assert await since(api, before) == sorted(TASKS)
    # Yesterday's is no longer enough; a failure is tried again after an hour.
    await rows(api, "update maintenance_runs set started_at = started_at - interval '25 hours' where task = 'prune_jobs'")
    await rows(api, "update maintenance_runs set state = 'failed' where task = 'prune_audit'")
    again = datetime.now(UTC)
    await work.daily(workers[1])
    assert await since(api, again) == ["prune_jobs"]
    await rows(api, "update maintenance_runs set started_at = started_at - interval '2 hours' where task = 'prune_audit'")
    await work.daily(workers[1])
    assert await since(api, again) == ["prune_audit", "prune_jobs"]


async def test_while_writes_are_frozen_nothing_is_removed(api: Api, operator: Person) -> None:
    _, daily = crons_of(DOMAINS)["daily maintenance"]
    await rows(api, "delete from maintenance_runs")
    before = datetime.now(UTC) - timedelta(seconds=1)
    async with forced(api, WRITE_FREEZE):
        await daily(api.resources)
        assert await since(api, before) == []
        assert error_of(await operator.post(RUN, params={"task": "prune_jobs"})) == ("WRITE_FROZEN", 503)
    await daily(api.resources)
    assert await since(api, before) == sorted(TASKS)
