"""How a job ends, and what a worker that lost its lease may still do: nothing."""

import asyncio

import pytest

from nexusrag.infra.database import Database, Work
from nexusrag.infra.jobs import UNTIL_DONE, Job, JobHandler, LeaseLost, PermanentFailure, backoff_s, enqueue, execute
from nexusrag.kernel.errors import ApiError, ErrorCode
from tests.support.queues import KIND, Queue


async def succeed(job: Job) -> None:
    """A job without an effect of its own."""


def failing(error: Exception) -> JobHandler:
    async def run(job: Job) -> None:
        raise error

    return JobHandler(kind=KIND, run=run)


async def test_success_is_written_down(queue: Queue) -> None:
    job_id = await queue.put()
    (job,) = await queue.claim()
    await execute(job, JobHandler(kind=KIND, run=succeed))
    row = await queue.row(job_id)
    assert (row["state"], row["cause"], row["leased_until"]) == ("succeeded", None, None)
    assert row["finished_at"] is not None


async def test_a_failure_is_tried_again_after_a_growing_pause_and_then_given_up_with_its_cause(queue: Queue) -> None:
    told: list[str] = []

    async def dead(job: Job, work: Work, reason: str) -> None:
        told.append(reason)

    async def run(job: Job) -> None:
        raise ApiError(ErrorCode.RETRIEVAL_ERROR, "It went wrong.")

    handler = JobHandler(kind=KIND, run=run, dead=dead)
    job_id = await queue.put(max_attempts=3)
    for attempt, least, most in ((1, 0.5, 2.6), (2, 1.5, 5.1)):
        (job,) = await queue.claim()
        assert job.attempt == attempt
        await execute(job, handler)
        row = await queue.row(job_id)
        assert (row["state"], row["cause"]) == ("queued", "It went wrong.")
        assert least < row["wait"].total_seconds() < most
        assert await queue.claim() == []
        await queue.make_due(job_id)
    assert told == []
    (job,) = await queue.claim()
    await execute(job, handler)
    row = await queue.row(job_id)
    assert (row["state"], row["cause"], row["attempt"]) == ("failed", "It went wrong.", 3)
    assert told == ["It went wrong."]
    assert await queue.claim() == []


async def test_a_dependency_that_is_away_costs_no_attempt(queue: Queue) -> None:
    job_id = await queue.put(max_attempts=1)
    for _ in range(3):
        (job,) = await queue.claim()
        assert job.attempt == 1
        await execute(job, failing(ApiError(ErrorCode.INTEGRATION_UNAVAILABLE, "The model is away.")))
        row = await queue.row(job_id)
        assert (row["state"], row["cause"]) == ("queued", "The model is away.")
        assert row["wait"].total_seconds() > 10
        await queue.make_due(job_id)


async def test_an_unforeseen_error_is_named_without_its_text(queue: Queue) -> None:
    job_id = await queue.put(max_attempts=1)
    (job,) = await queue.claim()
    await execute(job, failing(ValueError("contents of a document")))
    assert (await queue.row(job_id))["cause"] == "An internal error (ValueError)."


async def test_a_permanent_failure_is_not_tried_again(queue: Queue) -> None:
    job_id = await queue.put(max_attempts=5)
    (job,) = await queue.claim()
    await execute(job, failing(PermanentFailure("The file is encrypted.")))
    row = await queue.row(job_id)
    assert (row["state"], row["cause"], row["attempt"]) == ("failed", "The file is encrypted.", 1)


def buried(queue: Queue, faults: list[Exception]) -> JobHandler:
    """A job that is no use, whose hook meets these faults one after the other and then succeeds."""

    async def run(job: Job) -> None:
        raise PermanentFailure("No use.")

    async def dead(job: Job, work: Work, reason: str) -> None:
        await enqueue(work, "clean.up", {"reason": reason}, queue=queue.name, max_attempts=1)
        if faults:
            raise faults.pop(0)

    return JobHandler(kind=KIND, run=run, dead=dead)


async def test_the_dead_hook_commits_with_the_verdict_or_not_at_all(queue: Queue) -> None:
    job_id = await queue.put(max_attempts=1)
    away = [ApiError(ErrorCode.SERVICE_UNAVAILABLE, "away")] * 3
    (job,) = await queue.claim()
    await execute(job, buried(queue, list(away)))
    row = await queue.row(job_id)
    assert (row["state"], row["attempt"], row["cause"]) == ("queued", 0, "No use.")  # the verdict is tried again
    assert await queue.claim(kinds=["clean.up"]) == []


async def test_a_dead_hook_that_fails_is_tried_again(queue: Queue) -> None:
    job_id = await queue.put()
    (job,) = await queue.claim()
    await execute(job, buried(queue, [ValueError("broken"), ValueError("broken")]))
    row = await queue.row(job_id)
    assert (row["state"], row["cause"]) == ("failed", "No use.")
    (cleaning,) = await queue.claim(kinds=["clean.up"], limit=5)
    assert cleaning.args == {"reason": "No use."}


@pytest.mark.parametrize("fault", [ValueError("contents"), ApiError(ErrorCode.SERVICE_UNAVAILABLE, "The store is away.")])
async def test_a_dead_hook_that_always_fails_ends_its_job_with_both_causes(queue: Queue, fault: Exception) -> None:
    job_id = await queue.put(max_attempts=UNTIL_DONE)
    await queue.sql("update jobs set created_at = created_at - interval '2 hours' where id = $1", job_id)  # patience is over
    (job,) = await queue.claim()
    await execute(job, buried(queue, [fault] * 10))
    row = await queue.row(job_id)
    told = "The store is away." if isinstance(fault, ApiError) else "An internal error (ValueError)."
    assert (row["state"], row["cause"]) == ("failed", f"No use. What should follow from that failed too: {told}")
    assert await queue.claim(kinds=[KIND, "clean.up"], limit=5) == []


async def test_waiting_for_a_lock_costs_no_attempt(queue: Queue) -> None:
    async def run(job: Job) -> None:
        async with job.work() as work:
            await work.raw.execute("set local lock_timeout = '50ms'")
            await work.raw.execute("select 1 from jobs where id = $1 for update", locked)

    locked, job_id = await queue.put(kind="other"), await queue.put(max_attempts=1)
    admin = await queue.servers.admin()
    try:
        async with admin.transaction():
            await admin.execute("select 1 from jobs where id = $1 for update", locked)
            (job,) = await queue.claim()
            await execute(job, JobHandler(kind=KIND, run=run))
    finally:
        await admin.close()
    row = await queue.row(job_id)
    assert (row["state"], row["attempt"], row["cause"]) == ("queued", 0, "Another process holds what this needs.")


async def test_a_job_whose_workers_all_died_is_given_up(queue: Queue) -> None:
    ran: list[int] = []
    told: list[str] = []

    async def run(job: Job) -> None:
        ran.append(job.attempt)

    async def dead(job: Job, work: Work, reason: str) -> None:
        told.append(reason)

    job_id = await queue.put(max_attempts=2)
    for _ in range(2):
        await queue.claim()
        await queue.lose_lease(job_id)
    (job,) = await queue.claim()
    await execute(job, JobHandler(kind=KIND, run=run, dead=dead))
    assert ran == []
    assert (await queue.row(job_id))["state"] == "failed"
    assert len(told) == 1
    assert "worker went away" in told[0]


async def test_a_zombie_can_neither_write_nor_end_the_job(queue: Queue) -> None:
    job_id = await queue.put()
    (zombie,) = await queue.claim(worker="zombie")
    await queue.lose_lease(job_id)
    assert (await queue.row(job_id))["state"] == "queued"
    for finish in (False, True):
        with pytest.raises(LeaseLost):
            async with zombie.work(finish=finish) as work:
                await enqueue(work, "effect", {}, queue=queue.name, max_attempts=1)
    (heir,) = await queue.claim(worker="heir")
    assert (heir.id, heir.epoch) == (job_id, 2)
    for finish in (False, True):
        with pytest.raises(LeaseLost):
            async with zombie.work(finish=finish) as work:
                await enqueue(work, "effect", {}, queue=queue.name, max_attempts=1)
    assert await queue.sql("select 1 from jobs where queue = $1 and kind = 'effect'", queue.name) == []
    row = await queue.row(job_id)
    assert (row["state"], row["worker"], row["epoch"]) == ("running", "heir", 2)


@pytest.mark.parametrize("outcome", [None, ValueError("broken"), PermanentFailure("no use"), asyncio.CancelledError()])
async def test_whatever_a_zombie_comes_to_changes_nothing(queue: Queue, outcome: BaseException | None) -> None:
    told: list[str] = []

    async def run(job: Job) -> None:
        if outcome is not None:
            raise outcome

    async def dead(job: Job, work: Work, reason: str) -> None:
        told.append(reason)

    job_id = await queue.put()
    (zombie,) = await queue.claim(worker="zombie")
    await queue.lose_lease(job_id)
    await queue.claim(worker="heir")
    before = dict(await queue.row(job_id))
    try:
        await execute(zombie, JobHandler(kind=KIND, run=run, dead=dead))
    except asyncio.CancelledError:
        assert isinstance(outcome, asyncio.CancelledError)
    after = dict(await queue.row(job_id))
    assert {name: after[name] for name in after if name != "wait"} == {name: before[name] for name in before if name != "wait"}
    assert told == []


async def test_a_write_that_waits_for_the_fence_until_the_lease_is_lost_is_rolled_back(queue: Queue) -> None:
    """The reaper and the heir come between a zombie's writes and its commit."""
    job_id = await queue.put()
    (zombie,) = await queue.claim()
    with pytest.raises(LeaseLost):
        async with zombie.work(finish=True) as work:
            await enqueue(work, "effect", {}, queue=queue.name, max_attempts=1)
            await queue.lose_lease(job_id)
            (heir,) = await queue.claim()
    async with heir.work(finish=True):
        pass
    assert (await queue.row(job_id))["state"] == "succeeded"
    assert await queue.sql("select 1 from jobs where queue = $1 and kind = 'effect'", queue.name) == []


async def test_a_job_is_invisible_to_other_tenants(queue: Queue) -> None:
    job_id = await queue.put()
    async with queue.resources.get(Database).work("another-tenant") as work:
        assert await work.raw.fetchval("select count(*) from jobs where id = $1", job_id) == 0


def test_the_pause_before_another_attempt_is_bounded() -> None:
    assert all(1.5 <= backoff_s(1) <= 2.5 for _ in range(100))
    assert all(225 <= backoff_s(attempt) <= 375 for attempt in range(9, 40))
