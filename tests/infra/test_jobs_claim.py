"""Which job a worker gets next."""

import asyncio
from collections import Counter

from tests.support.queues import KIND, Queue


async def test_two_workers_never_get_the_same_job(queue: Queue) -> None:
    ids = [await queue.put() for _ in range(20)]
    batches = await asyncio.gather(*(queue.claim(2, worker=f"worker {n}") for n in range(20)))
    claimed = [job.id for batch in batches for job in batch]
    assert len(claimed) == len(set(claimed))
    while more := await queue.claim(20):
        claimed += [job.id for job in more]
    assert sorted(claimed) == sorted(ids)


async def test_a_claim_counts_an_attempt_raises_the_epoch_and_takes_a_lease(queue: Queue) -> None:
    job_id = await queue.put()
    (job,) = await queue.claim(worker="me")
    row = await queue.row(job_id)
    assert (row["state"], row["worker"], row["attempt"], row["epoch"]) == ("running", "me", 1, 1)
    assert (job.attempt, job.epoch) == (1, 1)
    (lease,) = await queue.sql(
        "select leased_until > now() and leased_until < now() + interval '11 s' as held from jobs where id = $1", job_id
    )
    assert lease["held"]


async def test_with_one_slot_a_tenant_with_one_job_does_not_wait_for_a_tenant_with_500(queue: Queue) -> None:
    await queue.sql(
        "insert into jobs (id, tenant_id, queue, kind, max_attempts) "
        "select $1 || n, 'busy-tenant', $2, $3, 3 from generate_series(1, 500) n",
        f"job_{queue.name}_", queue.name, KIND,
    )  # fmt: skip
    (first,) = await queue.claim()
    assert first.tenant_id == "busy-tenant"
    waiting = await queue.put()
    (second,) = await queue.claim()
    assert second.id == waiting


async def test_free_slots_go_round_the_tenants(queue: Queue) -> None:
    for tenant in ("tenant-a", "tenant-b", "tenant-c"):
        for _ in range(8 if tenant == "tenant-a" else 3):
            await queue.put(tenant)
    assert Counter(job.tenant_id for job in await queue.claim(6)) == {"tenant-a": 2, "tenant-b": 2, "tenant-c": 2}
    # What runs already counts: the next slots go to whoever has least.
    await queue.put("tenant-d")
    assert next(iter(await queue.claim(1))).tenant_id == "tenant-d"


async def test_the_tenant_served_longest_ago_comes_next(queue: Queue) -> None:
    order = []
    for tenant in ("tenant-a", "tenant-b"):
        for _ in range(3):
            await queue.put(tenant)
    for _ in range(6):
        (job,) = await queue.claim()
        order.append(job.tenant_id)
        async with job.work(finish=True):
            pass
    assert order in (["tenant-a", "tenant-b"] * 3, ["tenant-b", "tenant-a"] * 3)


async def test_jobs_of_one_tenant_are_served_in_the_order_of_arrival(queue: Queue) -> None:
    ids = [await queue.put() for _ in range(5)]
    assert [(await queue.claim())[0].id for _ in ids] == ids


async def test_a_job_that_is_not_due_is_left(queue: Queue) -> None:
    job_id = await queue.put()
    await queue.sql("update jobs set run_at = now() + interval '1 hour' where id = $1", job_id)
    assert await queue.claim() == []


async def test_a_kind_that_this_worker_does_not_know_is_left_for_one_that_does(queue: Queue) -> None:
    unknown = await queue.put(kind="of.a.later.release")
    known = await queue.put()
    assert [job.id for job in await queue.claim(10)] == [known]
    assert (await queue.row(unknown))["state"] == "queued"
    assert [job.id for job in await queue.claim(10, kinds=["of.a.later.release"])] == [unknown]


async def test_another_queue_is_not_touched(queue: Queue) -> None:
    await queue.put()
    neighbour = Queue(queue.servers, queue.resources)
    assert await neighbour.claim(10) == []
