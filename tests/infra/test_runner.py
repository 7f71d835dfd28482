"""The loop of a worker: wake-ups, leases, stopping, and outliving what its dependencies do."""

import asyncio
import os
import pickle
from pathlib import Path
from typing import Any

import orjson
import pytest
from arq.constants import job_key_prefix

from nexusrag.infra import runner as runner_module
from nexusrag.infra.jobs import LEASE_S, Job, JobHandler, transaction
from nexusrag.infra.redis import Redis
from nexusrag.infra.resources import Resources
from nexusrag.infra.runner import Runner
from nexusrag.kernel.errors import ApiError, ErrorCode
from tests.support.processes import until
from tests.support.queues import KIND, Queue


async def started(queue: Queue, job_id: str) -> None:
    async def running() -> bool:
        return bool((await queue.row(job_id))["state"] == "running")

    await until(running)


async def ended(queue: Queue, job_id: str, state: str = "succeeded") -> None:
    async def there() -> bool:
        return bool((await queue.row(job_id))["state"] == state)

    await until(there)


async def nothing(job: Job) -> None:
    """A job without an effect of its own."""


QUICK = JobHandler(kind=KIND, run=nothing)


@pytest.mark.slow
async def test_a_wake_up_starts_a_job_well_before_the_worker_would_look_by_itself(queue: Queue) -> None:
    waits = []
    async with queue.running(QUICK):
        await ended(queue, await queue.put())  # the loops and the doorbell stand
        for _ in range(5):
            job_id = await queue.put()
            assert await queue.ring()
            await ended(queue, job_id)
            waits += await queue.sql("select extract(epoch from started_at - created_at)::float as s from jobs where id = $1", job_id)
    # By chance alone, looking every 2 s, the median would be 1 s.
    assert sorted(row["s"] for row in waits)[2] < 0.8


async def test_of_wake_ups_in_a_row_the_first_and_the_last_are_sent(queue: Queue) -> None:
    redis = queue.resources.get(Redis).client
    for _ in range(20):
        assert await queue.ring()
    assert await redis.zcard(queue.name) < 20

    async def another() -> bool:
        return bool(await redis.zcard(queue.name) >= 2)

    await until(another)
    assert await redis.zcard(queue.name) < 20


@pytest.mark.slow
async def test_without_a_wake_up_the_worker_finds_the_job_by_itself(queue: Queue) -> None:
    async with queue.running(QUICK):
        await ended(queue, await queue.put())


@pytest.mark.slow
async def test_flushing_redis_loses_no_job(queue: Queue) -> None:
    ids = [await queue.put() for _ in range(30)]
    for _ in ids:
        await queue.ring()
    await queue.resources.get(Redis).client.flushall()
    async with queue.running(QUICK):
        for job_id in ids:
            await ended(queue, job_id)


@pytest.mark.slow
async def test_what_stands_in_redis_is_never_run(queue: Queue, tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "owned"),)

    redis = queue.resources.get(Redis).client
    assert await queue.ring()
    (ours,) = await redis.zrange(queue.name, 0, -1)
    assert orjson.loads(await redis.get(job_key_prefix + ours.decode()))["f"] == "wake"
    await redis.set(f"{job_key_prefix}planted", pickle.dumps({"t": 1, "f": "wake", "a": (Planted(),), "k": {}, "et": 0}))
    await redis.zadd(queue.name, {"planted": 1})

    async def taken() -> bool:
        return bool(await redis.zcard(queue.name) == 0)

    async with queue.running(QUICK):
        await until(taken)
        await queue.ring()  # what could not be read has done no harm
        await ended(queue, await queue.put())
    assert list(tmp_path.iterdir()) == []


async def test_a_wake_up_while_all_places_are_taken_does_not_make_the_loop_spin(queue: Queue) -> None:
    release = asyncio.Event()
    claims = 0

    async def hold(job: Job) -> None:
        await release.wait()

    class Counting(Runner):
        async def _claim(self) -> None:
            nonlocal claims
            claims += 1
            await super()._claim()

    runner = Counting(queue.resources, queue.name, (JobHandler(kind=KIND, run=hold),), concurrency=1, heartbeat_s=1)
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop))
    job_id = await queue.put()
    runner.ring()
    await started(queue, job_id)
    before = claims
    for _ in range(3):
        runner.ring()
        await queue.row(job_id)  # some turns of the loop
    seen = claims - before
    release.set()
    stop.set()
    await task
    assert seen <= 6
    await ended(queue, job_id)


@pytest.mark.slow
async def test_a_lease_is_renewed_for_as_long_as_the_job_runs(queue: Queue) -> None:
    release = asyncio.Event()

    async def hold(job: Job) -> None:
        await release.wait()

    async with queue.running(JobHandler(kind=KIND, run=hold)):
        job_id = await queue.put()
        await queue.ring()
        await started(queue, job_id)
        first = (await queue.row(job_id))["leased_until"]

        async def renewed() -> bool:
            return bool((await queue.row(job_id))["leased_until"] > first)

        await until(renewed)
        release.set()
        await ended(queue, job_id)
    assert (await queue.row(job_id))["epoch"] == 1


@pytest.mark.slow
async def test_a_job_that_was_taken_away_is_stopped(queue: Queue) -> None:
    stopped = asyncio.Event()

    async def hold(job: Job) -> None:
        if job.epoch > 1:
            return
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with queue.running(JobHandler(kind=KIND, run=hold)) as runner:
        job_id = await queue.put()
        runner.ring()
        await started(queue, job_id)
        await queue.lose_lease(job_id)
        await asyncio.wait_for(stopped.wait(), 10)
        await ended(queue, job_id)
    row = await queue.row(job_id)
    assert (row["epoch"], row["attempt"]) == (2, 2)


@pytest.mark.slow
async def test_what_a_frozen_worker_holds_comes_free_within_a_lease(queue: Queue) -> None:
    job_id = await queue.put()
    with pytest.raises(ApiError) as lost:
        async with transaction(queue.resources) as work:  # nothing is heard of it after this statement
            await work.raw.fetch("select * from jobs_claim('frozen', $1, $2, 1, interval '10 s')", queue.name, [KIND])
            async with queue.running(QUICK):
                await ended(queue, job_id)
    assert lost.value.code is ErrorCode.SERVICE_UNAVAILABLE
    (row,) = await queue.sql("select *, extract(epoch from started_at - created_at)::float as wait from jobs where id = $1", job_id)
    assert (row["epoch"], row["attempt"]) == (1, 1)
    assert row["wait"] < LEASE_S


@pytest.mark.slow
async def test_what_a_dead_worker_asked_the_database_for_is_given_up(queue: Queue) -> None:
    with pytest.raises(ApiError):
        async with transaction(queue.resources) as work:
            session = await work.raw.fetchval("select pg_backend_pid()")
            asking = asyncio.create_task(work.raw.execute("select pg_sleep(60)"))
            await until(lambda: queue.sql("select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'", session))
            work.raw.terminate()
            await asyncio.wait({asking})

            async def ended() -> bool:
                return not await queue.sql("select 1 from pg_stat_activity where pid = $1", session)

            await until(ended, 10)
            await asking


async def test_a_stopping_worker_hands_back_what_it_cannot_finish_without_counting_the_attempt(queue: Queue) -> None:
    async def hold(job: Job) -> None:
        await asyncio.Event().wait()

    async with queue.running(JobHandler(kind=KIND, run=hold), grace_s=0.1) as runner:
        job_id = await queue.put()
        runner.ring()
        await started(queue, job_id)
    row = await queue.row(job_id)
    assert (row["state"], row["attempt"], row["leased_until"]) == ("queued", 0, None)
    (job,) = await queue.claim()
    assert (job.id, job.attempt, job.epoch) == (job_id, 1, 2)


async def test_a_stopping_worker_finishes_what_is_nearly_done(queue: Queue) -> None:
    nearly = asyncio.Event()

    async def run(job: Job) -> None:
        nearly.set()
        await queue.row(job.id)

    job_id = await queue.put()
    async with queue.running(JobHandler(kind=KIND, run=run)):
        await asyncio.wait_for(nearly.wait(), 10)
    assert (await queue.row(job_id))["state"] == "succeeded"


async def test_a_job_that_was_claimed_while_the_worker_was_told_to_stop_does_not_wait_for_its_lease(queue: Queue) -> None:
    stop = asyncio.Event()

    class Stopped(Runner):
        async def _claim(self) -> None:
            stop.set()
            await super()._claim()

    job_id = await queue.put()
    await Stopped(queue.resources, queue.name, (QUICK,), concurrency=1, heartbeat_s=1).run(stop)
    row = await queue.row(job_id)
    assert (row["state"], row["attempt"]) == ("succeeded", 1)


@pytest.mark.slow
async def test_a_stopping_worker_ends_though_a_library_drops_its_cancellation(queue: Queue) -> None:
    dropped = 0

    async def deaf(_: Resources) -> None:
        nonlocal dropped
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            dropped += 1
            if dropped > 2:
                raise

    await asyncio.wait_for(stopped_with(queue, deaf), 10)
    assert dropped == 3


async def test_a_stopping_worker_leaves_behind_what_never_ends(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "_END_WITHIN_S", 0.1)
    release = asyncio.Event()

    async def deaf(_: Resources) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    before = asyncio.all_tasks()
    await asyncio.wait_for(stopped_with(queue, deaf), 10)
    left = {task for task in asyncio.all_tasks() - before if task.get_name() in ("cron", "doorbell")}  # of a worker, and nobody else's
    assert "cron" in {task.get_name() for task in left}
    release.set()
    assert await runner_module._end(left, within_s=10) == []


async def stopped_with(queue: Queue, cron: runner_module.Periodic) -> None:
    """A worker that is told to stop once `cron` is under way."""
    under_way = asyncio.Event()

    async def begin(resources: Resources) -> None:
        under_way.set()
        await cron(resources)

    await Runner(queue.resources, queue.name, (QUICK,), concurrency=1, heartbeat_s=1, crons={"cron": (0.01, begin)}).run(under_way)


async def test_a_failing_job_does_not_disturb_its_neighbours(queue: Queue) -> None:
    async def run(job: Job) -> None:
        if job.args["fails"]:
            raise ValueError("broken")

    ids = [await queue.put(fails=n % 2 == 0, max_attempts=1) for n in range(10)]
    async with queue.running(JobHandler(kind=KIND, run=run)):
        for place, job_id in enumerate(ids):
            await ended(queue, job_id, "failed" if place % 2 == 0 else "succeeded")


@pytest.mark.slow
async def test_the_worker_outlives_the_loss_of_its_database_connections(queue: Queue) -> None:
    async with queue.running(QUICK) as runner:
        await ended(queue, await queue.put())
        await queue.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'nexusrag'")
        job_id = await queue.put()
        runner.ring()
        await ended(queue, job_id)


async def test_a_worker_shows_itself_while_it_works_and_is_gone_afterwards(queue: Queue) -> None:
    async with queue.running(QUICK) as runner:

        async def seen() -> bool:
            return bool(await queue.sql("select 1 from workers where id = $1 and queue = $2", runner.id, queue.name))

        await until(seen)
    assert await queue.sql("select 1 from workers where id = $1", runner.id) == []
