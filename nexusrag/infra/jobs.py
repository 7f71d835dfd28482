"""Background jobs: one table is queue and outbox. A job may run twice and has its effect once: each write carries its epoch."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
import structlog

from nexusrag.infra.database import Database, Work
from nexusrag.infra.metrics import JOBS
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.switches import Switch

log = structlog.get_logger(__name__)
LEASE_S = 10
RENEW_S = 3
# For what must happen in the end, however long a dependency is away: nobody is left to ask for it again.
UNTIL_DONE = 1_000_000
_BACKOFF_S = 2.0
_TRANSIENT = (ErrorCode.SERVICE_UNAVAILABLE, ErrorCode.INTEGRATION_UNAVAILABLE)
_TRANSIENT_PAUSE_S = 15.0
_PATIENCE_S = 3600.0
_BACKOFF_MAX_S = 300.0
_HOOK_PAUSES_S = (0.0, 0.25, 0.5)
# What a worker holds when it freezes or dies must be free before its lease is over: half of that in silence, and a statement
# whose client has gone. Whoever waits for such a lock gives up early enough to tell it from a statement that takes too long.
_OPTIONS = {
    "idle_in_transaction_session_timeout": str(LEASE_S * 500),
    "client_connection_check_interval": "1000",
    "lock_timeout": str(LEASE_S * 1000),
}


def transaction(
    resources: Resources, tenant_id: str | None = None, options: Mapping[str, str] | None = None
) -> AbstractAsyncContextManager[Work]:
    """A transaction of the queue: what it locks comes free within a lease, whatever happens to this process."""
    return resources.get(Database).work(tenant_id, options={**_OPTIONS, **options} if options else _OPTIONS)


class LeaseLost(Exception):
    """Another worker owns the job now; whatever this one was about to write is rolled back."""


class SwitchedOff(Exception):
    """An operator has switched off what the job does: it goes back to the queue as if it had not been begun."""


class TemporaryFailure(Exception):
    """Trying again, some time later each time, may well help. The reason is written for operators."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PermanentFailure(Exception):
    """Trying again is no use. The reason is written for the person who asked for the job."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Job:
    """One claimed job. `args` hold ids, parameters and names of files, never text of documents."""

    id: str
    tenant_id: str
    queue: str
    kind: str
    args: dict[str, Any]
    attempt: int
    max_attempts: int
    epoch: int
    resources: Resources
    finished: bool = False

    @asynccontextmanager
    async def work(self, *, finish: bool = False, options: Mapping[str, str] | None = None) -> AsyncIterator[Work]:
        """A transaction in the job's tenant that commits only while the lease is held; `finish` ends the job with it.

        `options` are further settings of it.

        Raises LeaseLost, with everything rolled back, when another worker has taken the job.
        """
        async with transaction(self.resources, self.tenant_id, options) as work:
            yield work
            await work.flush()
            # Last in the transaction: the row is locked only until the commit, so renewals hardly wait.
            if finish:
                held = await work.raw.fetchval(_FINISH, self.id, self.epoch)
            else:
                held = await work.raw.fetchval(_FENCE, self.id, self.epoch)
            if held is None:
                raise LeaseLost(self.id)
        self.finished = self.finished or finish


_FENCE = "select id from jobs where id = $1 and epoch = $2 and state = 'running' for update"
_FINISH = (
    "update jobs set state = 'succeeded', finished_at = clock_timestamp(), leased_until = null, cause = null "
    "where id = $1 and epoch = $2 and state = 'running' returning id"
)
_FAIL = (
    "update jobs set state = 'failed', finished_at = clock_timestamp(), leased_until = null, cause = $3 "
    "where id = $1 and epoch = $2 and state = 'running' returning id"
)
_RETRY = (
    "update jobs set state = 'queued', run_at = clock_timestamp() + make_interval(secs => $3), leased_until = null, cause = $4 "
    "where id = $1 and epoch = $2 and state = 'running' returning id"
)
_WAIT = (
    "update jobs set state = 'queued', run_at = clock_timestamp() + make_interval(secs => $3), leased_until = null, cause = $4, "
    "attempt = attempt - 1 where id = $1 and epoch = $2 and state = 'running' "
    "and created_at > clock_timestamp() - make_interval(secs => $5) returning id"
)
_HAND_BACK = (
    "update jobs set state = 'queued', run_at = clock_timestamp(), leased_until = null, attempt = attempt - 1 "
    "where id = $1 and epoch = $2 and state = 'running'"
)
_TAKE_ONE = (
    "update jobs set state = 'running', epoch = epoch + 1, attempt = attempt + 1, worker = $2, started_at = clock_timestamp(), "
    "leased_until = clock_timestamp() + make_interval(secs => $3) where id = $1 and state = 'queued' returning *"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHandler:
    """What a domain does for one kind of job. `dead` runs when the job is given up, in the transaction that says so.

    A `dead` that fails every time is left out in the end: the job's cause then names both faults. While `switch` is on, no job of the
    kind is begun.
    """

    kind: str
    run: Callable[[Job], Awaitable[None]]
    dead: Callable[[Job, Work, str], Awaitable[None]] | None = None
    switch: Switch | None = None


class Handlers:
    """What this release does for each kind of job."""

    def __init__(self, handlers: Iterable[JobHandler]) -> None:
        self._held = {handler.kind: handler for handler in handlers}

    def of(self, kind: str) -> JobHandler:
        return self._held[kind]

    def all(self) -> tuple[JobHandler, ...]:
        return tuple(self._held.values())


async def enqueue(work: Work, kind: str, args: dict[str, Any], *, queue: str, max_attempts: int, delay_s: float = 0) -> str:
    """Add a job to the transaction; it exists once that commits, and is due `delay_s` later. Returns its id.

    Wake the workers after the commit.
    """
    job_id = new_id("job")
    await work.raw.execute(
        "insert into jobs (id, tenant_id, queue, kind, args, max_attempts, run_at) "
        "values ($1, $2, $3, $4, $5::text::jsonb, $6, clock_timestamp() + make_interval(secs => $7))",
        job_id,
        work.tenant_id,
        queue,
        kind,
        orjson.dumps(args).decode(),
        max_attempts,
        float(delay_s),
    )
    return job_id


async def withdraw(work: Work, job_id: str) -> bool:
    """Take a job back in the transaction. False when it is too late: a worker has begun it, now or ever."""
    taken = await work.raw.fetchval("delete from jobs where tenant_id = $1 and id = $2 and epoch = 0 returning id", work.tenant_id, job_id)
    return taken is not None


def job_of(row: Any, resources: Resources) -> Job:
    """A claimed row as a job."""
    return Job(
        id=row["id"],
        tenant_id=row["tenant_id"],
        queue=row["queue"],
        kind=row["kind"],
        args=row["args"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        epoch=row["epoch"],
        resources=resources,
    )


async def execute(job: Job, handler: JobHandler) -> None:
    """Run one claimed job to its outcome: succeeded, queued again with backoff, or failed with a reason."""
    try:
        outcome = await _outcome(job, handler)
    except asyncio.CancelledError:
        await asyncio.shield(hand_back(job))
        raise
    JOBS.labels(job.kind, outcome).inc()


async def _outcome(job: Job, handler: JobHandler) -> str:
    try:
        if job.attempt > job.max_attempts:
            raise PermanentFailure("It was tried too often: each time the worker went away before it was done.")
        await handler.run(job)
        if not job.finished:
            async with job.work(finish=True):
                pass
    except LeaseLost:
        return "lease_lost"
    except SwitchedOff:
        await hand_back(job)
        return "switched_off"
    except PermanentFailure as error:
        return await _give_up(job, handler, error.reason)
    except Exception as error:  # whatever a handler raises is an outcome of the job, not of the worker
        log.warning("job.failed", job=job.id, kind=job.kind, attempt=job.attempt, error=type(error).__name__, exc_info=error)
        if _transient(error) and await _wait(job, _told(error)):
            return "waiting"
        if job.attempt < job.max_attempts:
            return await _retry(job, _told(error))
        return await _give_up(job, handler, _told(error))
    return "succeeded"


def _transient(error: Exception) -> bool:
    """Whether the fault is that of a dependency that is away, or of somebody who holds what the job needs."""
    return isinstance(error, asyncpg.LockNotAvailableError) or (isinstance(error, ApiError) and error.code in _TRANSIENT)


def _told(error: Exception) -> str:
    """The fault in words for whoever asked for the job, without contents."""
    if isinstance(error, asyncpg.LockNotAvailableError):
        return "Another process holds what this needs."
    if isinstance(error, TemporaryFailure):
        return error.reason
    return error.message if isinstance(error, ApiError) else f"An internal error ({type(error).__name__})."


async def hand_back(job: Job) -> None:
    """Give an unfinished job back at once, without counting the attempt."""
    async with transaction(job.resources, job.tenant_id) as work:
        await work.raw.execute(_HAND_BACK, job.id, job.epoch)


async def execute_leased(job: Job, handler: JobHandler) -> None:
    """Run a job that `take` claimed, keeping its lease meanwhile; what a worker's loops do for its jobs."""
    renewing = asyncio.create_task(_keep_lease(job))
    try:
        await execute(job, handler)
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _keep_lease(job: Job) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        async with transaction(job.resources) as work:
            await work.raw.execute("select jobs_renew($1, $2, make_interval(secs => $3))", [job.id], [job.epoch], float(LEASE_S))


async def take(resources: Resources, tenant_id: str, job_id: str, *, worker: str) -> Job | None:
    """Claim one job by its id, for inline execution; None when it is not waiting."""
    async with transaction(resources, tenant_id) as work:
        row = await work.raw.fetchrow(_TAKE_ONE, job_id, worker, float(LEASE_S))
    return None if row is None else job_of(row, resources)


def backoff_s(attempt: int) -> float:
    """Seconds until attempt + 1: exponential, capped, with up to a quarter of jitter."""
    pause: float = min(_BACKOFF_S * 2 ** min(attempt - 1, 16), _BACKOFF_MAX_S)
    return pause * random.uniform(0.75, 1.25)


async def _wait(job: Job, reason: str) -> bool:
    """Put the job back without counting the attempt: a dependency that is away says nothing about the job. For an hour at most."""
    try:
        async with transaction(job.resources, job.tenant_id) as work:
            pause = _TRANSIENT_PAUSE_S * random.uniform(0.75, 1.25)
            return await work.raw.fetchval(_WAIT, job.id, job.epoch, pause, reason, _PATIENCE_S) is not None
    except ApiError:
        return True  # it is the database that is away: the lease runs out and the job is put back


async def _retry(job: Job, reason: str) -> str:
    """Write a failed attempt down. A database that is away leaves the lease to run out, which retries the job."""
    try:
        async with transaction(job.resources, job.tenant_id) as work:
            await work.raw.execute(_RETRY, job.id, job.epoch, backoff_s(job.attempt), reason)
    except (ApiError, asyncpg.PostgresError) as error:
        return _unsettled(job, error)
    return "retried"


async def _give_up(job: Job, handler: JobHandler, reason: str) -> str:
    """End the job as failed. Verdict and hook are one transaction; only a hook that fails again and again is left behind."""
    fault: Exception | None = None
    for pause in _HOOK_PAUSES_S:
        await asyncio.sleep(pause)
        try:
            return await _bury(job, handler, reason)
        except Exception as error:  # whatever a hook raises, it must not bring its job back for ever
            log.warning("job.give_up_failed", job=job.id, kind=job.kind, error=type(error).__name__, exc_info=error)
            fault = error
    assert fault is not None
    if _transient(fault) and await _wait(job, reason):
        return "waiting"
    try:
        return await _bury(job, None, f"{reason} What should follow from that failed too: {_told(fault)}")
    except (ApiError, asyncpg.PostgresError) as error:
        return _unsettled(job, error)


async def _bury(job: Job, handler: JobHandler | None, reason: str) -> str:
    async with transaction(job.resources, job.tenant_id) as work:
        if await work.raw.fetchval(_FAIL, job.id, job.epoch, reason) is None:
            return "lease_lost"
        if handler is not None and handler.dead is not None:
            await handler.dead(job, work, reason)
    return "failed"


def _unsettled(job: Job, error: Exception) -> str:
    # The lease runs out, and whoever claims the job next comes here again.
    log.warning("job.unsettled", job=job.id, kind=job.kind, error=type(error).__name__)
    return "unsettled"
