"""The loop of a worker: claims jobs fairly, keeps their leases, puts back what dead workers held, and runs the crons."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
import structlog
from arq.worker import Worker, func

from nexusrag.infra.jobs import LEASE_S, RENEW_S, Job, JobHandler, execute, job_of, transaction
from nexusrag.infra.metrics import QUEUE_DEPTH
from nexusrag.infra.redis import LISTEN_S, Redis
from nexusrag.infra.resources import Resources
from nexusrag.kernel.ids import new_id

log = structlog.get_logger(__name__)
LOOK_S = 2.0
_END_WITHIN_S = 5.0
_LEAVE_WITHIN_S = 2.0
_TOGETHER_S = 0.005  # jobs that end together are followed together: a claim each costs more than this wait
Periodic = Callable[[Resources], Awaitable[None]]


class Runner:
    """Runs the jobs of one queue in this process, at most `concurrency` at once."""

    def __init__(
        self,
        resources: Resources,
        queue: str,
        handlers: Sequence[JobHandler],
        *,
        concurrency: int,
        heartbeat_s: float,
        crons: Mapping[str, tuple[float, Periodic]] | None = None,
        grace_s: float = 8.0,
        kinds: Callable[[Sequence[JobHandler]], Awaitable[list[str]]] | None = None,
    ) -> None:
        """`kinds` says which of the handlers' kinds may be begun at present; without it, all."""
        self.id = f"{socket.gethostname()}/{new_id('worker')}"
        self._resources = resources
        self._queue = queue
        self._handlers = {handler.kind: handler for handler in handlers}
        self._concurrency = concurrency
        self._heartbeat_s = heartbeat_s
        self._crons = dict(crons or {})
        self._grace_s = grace_s
        self._kinds = kinds
        self._running: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # of jobs, with those that were taken away and are still cleaning up
        self._wake = asyncio.Event()
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then finish what is nearly done and hand the rest back, in `grace_s` and 7 s at most."""
        claiming = asyncio.create_task(self._claiming(), name="claim")
        loops = [
            claiming,
            asyncio.create_task(self._forever("leases", RENEW_S, self._renew), name="leases"),
            asyncio.create_task(self._forever("reaper", LOOK_S, self._reap), name="reaper"),
            asyncio.create_task(self._forever("heartbeat", self._heartbeat_s, self._beat), name="heartbeat"),
            asyncio.create_task(self._doorbell(), name="doorbell"),
            *(
                asyncio.create_task(self._forever(name, every_s, partial(run, self._resources)), name=name)
                for name, (every_s, run) in self._crons.items()
            ),
        ]
        try:
            await stop.wait()
        finally:
            await self._drain(claiming)
            left = await _end([*loops, *self._tasks], within_s=_END_WITHIN_S)
            if left:  # their leases run out
                log.error("worker.tasks_left", tasks=left)
            await self._leave()

    def ring(self) -> None:
        """Look for jobs now."""
        self._wake.set()

    async def _claiming(self) -> None:
        while not self._stopping:
            await self._step("claim", 0, self._claim)

    async def _claim(self) -> None:
        # Before looking, so that a wake-up that comes meanwhile counts; also when full, or a set event would make this loop spin.
        self._wake.clear()
        free = self._concurrency - len(self._running)
        rows = []
        kinds = list(self._handlers) if self._kinds is None else await self._kinds(list(self._handlers.values()))
        if free > 0 and kinds:
            async with transaction(self._resources) as work:
                rows = await work.raw.fetch(
                    "select * from jobs_claim($1, $2, $3, $4, make_interval(secs => $5))",
                    self.id, self._queue, kinds, free, float(LEASE_S),
                )  # fmt: skip
        for row in rows:
            job = job_of(row, self._resources)
            if job.id in self._running:  # this process stalled for longer than a lease and now gets its own job again
                self._running[job.id][1].cancel()
            task = asyncio.create_task(self._run_one(job), name=f"job {job.id}")
            self._running[job.id] = (job, task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not rows and not self._stopping:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _run_one(self, job: Job) -> None:
        try:
            await execute(job, self._handlers[job.kind])
        finally:
            if job.id in self._running and self._running[job.id][0] is job:
                del self._running[job.id]
            asyncio.get_running_loop().call_later(_TOGETHER_S, self.ring)

    async def _renew(self) -> None:
        held = list(self._running.values())
        if not held:
            return
        async with transaction(self._resources) as work:
            rows = await work.raw.fetch(
                "select jobs_renew($1, $2, make_interval(secs => $3)) as id",
                [job.id for job, _ in held], [job.epoch for job, _ in held], float(LEASE_S),
            )  # fmt: skip
        kept = {row["id"] for row in rows}
        for job, task in held:
            if job.id not in kept and job.id in self._running and not job.finished:
                log.warning("job.lease_lost", job=job.id, kind=job.kind)
                task.cancel()

    async def _reap(self) -> None:
        async with transaction(self._resources) as work:
            put_back = await work.raw.fetchval("select jobs_reap()")
            depth = await work.raw.fetchrow("select * from jobs_depth($1)", self._queue)
        QUEUE_DEPTH.labels(self._queue).set(depth["queued"] if depth else 0)
        if put_back:
            log.warning("jobs.put_back", count=put_back)
            self.ring()

    async def _beat(self) -> None:
        async with transaction(self._resources) as work:
            await work.raw.execute(
                "insert into workers (id, queue) values ($1, $2) on conflict (id) do update set heartbeat_at = now()",
                self.id,
                self._queue,
            )
            await work.raw.execute("delete from workers where heartbeat_at < now() - interval '1 day'")

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(_LEAVE_WITHIN_S), transaction(self._resources) as work:
                await work.raw.execute("delete from workers where id = $1", self.id)
        except Exception as error:  # leaving must not fail; the row goes stale by itself
            log.warning("worker.leave_failed", error=type(error).__name__)

    async def _drain(self, claiming: "asyncio.Task[None]") -> None:
        # A claim under way is awaited, not cancelled: the jobs it took would wait until their leases run out.
        self._stopping = True
        self.ring()
        try:
            async with asyncio.timeout(self._grace_s):
                await asyncio.wait({claiming})
                if self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            pass

    async def _doorbell(self) -> None:
        """ARQ carries wake-ups. Its worker ends when Redis goes away, so it is started again; meanwhile the claim loop polls."""

        async def wake(context: dict[Any, Any]) -> None:
            self.ring()

        delay = 0.2
        while True:
            redis = self._resources.get(Redis)
            if await redis.ping():
                worker = Worker(
                    functions=[func(wake, name="wake", keep_result=0, max_tries=1)],  # type: ignore[arg-type]  # its protocol wants any arguments
                    queue_name=self._queue,
                    redis_pool=redis.client,
                    job_serializer=orjson.dumps,
                    job_deserializer=orjson.loads,
                    handle_signals=False,
                    poll_delay=LISTEN_S,
                    max_jobs=50,
                    health_check_interval=3600,
                    keep_result=0,
                )
                try:
                    delay = 0.2
                    await worker.async_run()
                except Exception as error:  # whatever ended ARQ, jobs are found without it
                    log.warning("doorbell.down", error=type(error).__name__)
                finally:
                    await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5)

    async def _forever(self, name: str, every_s: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._step(name, every_s, step)

    async def _step(self, name: str, every_s: float, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Exception as error:  # a loop of the worker must outlive every fault of its dependencies
            log.warning("worker.step_failed", step=name, error=type(error).__name__)
            await asyncio.sleep(max(every_s, 0.5))
        else:
            if every_s:
                await asyncio.sleep(every_s)


async def _end(tasks: "Iterable[asyncio.Task[None]]", *, within_s: float) -> list[str]:
    """Cancel tasks until they have ended; returns the names of those that have not after `within_s` seconds.

    Once is not enough: redis-py sends within `asyncio.wait_for`, and that of Python 3.11 drops a cancellation that comes in the
    turns of the loop between the end of what it waits for and its own. The doorbell then polls on, for ever.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    pending = {task for task in tasks if not task.done()}
    while pending and (left := end - loop.time()) > 0:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=min(1, left))
    return sorted(task.get_name() for task in pending)
