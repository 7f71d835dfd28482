"""A queue for one test, apart from those of the product's workers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from nexusrag.infra.database import Database
from nexusrag.infra.jobs import LEASE_S, Job, JobHandler, enqueue, job_of
from nexusrag.infra.redis import Redis
from nexusrag.infra.resources import Resources
from nexusrag.infra.runner import Runner
from nexusrag.kernel.ids import new_id
from tests.support.installation import Servers

KIND = "test.job"


class Queue:
    """Jobs of one queue, looked at from behind the walls."""

    def __init__(self, servers: Servers, resources: Resources) -> None:
        self.servers = servers
        self.resources = resources
        self.name = new_id("queue")
        self.tenant = new_id("t").replace("_", "-")

    async def put(self, tenant: str | None = None, *, kind: str = KIND, max_attempts: int = 3, **args: Any) -> str:
        """A queued job; its id."""
        async with self.resources.get(Database).work(tenant or self.tenant) as work:
            return await enqueue(work, kind, args, queue=self.name, max_attempts=max_attempts)

    async def claim(self, limit: int = 1, *, worker: str = "worker", kinds: Sequence[str] = (KIND,), lease_s: float = LEASE_S) -> list[Job]:
        """What a worker gets that asks for `limit` jobs."""
        async with self.resources.get(Database).work(None) as work:
            rows = await work.raw.fetch(
                "select * from jobs_claim($1, $2, $3, $4, make_interval(secs => $5))", worker, self.name, list(kinds), limit, float(lease_s)
            )
        return [job_of(row, self.resources) for row in rows]

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """Rows of a statement that no wall binds."""
        admin = await self.servers.admin()
        try:
            return list(await admin.fetch(statement, *values))
        finally:
            await admin.close()

    async def row(self, job_id: str) -> Any:
        return (await self.sql("select *, run_at - now() as wait from jobs where id = $1", job_id))[0]

    async def lose_lease(self, job_id: str) -> None:
        """As if its worker had not been heard of for longer than a lease: the reaper puts the job back."""
        await self.sql("update jobs set leased_until = now() - interval '1 s' where id = $1", job_id)
        await self.sql("select jobs_reap()")

    async def make_due(self, job_id: str) -> None:
        await self.sql("update jobs set run_at = now() where id = $1", job_id)

    @asynccontextmanager
    async def running(self, *handlers: JobHandler, concurrency: int = 4, grace_s: float = 8.0) -> AsyncIterator[Runner]:
        """A worker of this queue, stopped in good order on leaving."""
        runner = Runner(self.resources, self.name, handlers, concurrency=concurrency, heartbeat_s=1, grace_s=grace_s)
        stop = asyncio.Event()
        task = asyncio.create_task(runner.run(stop))
        try:
            yield runner
        finally:
            stop.set()
            await task

    async def ring(self) -> bool:
        """The wake-up that follows an enqueueing commit."""
        return await self.resources.get(Redis).wake(self.name)
