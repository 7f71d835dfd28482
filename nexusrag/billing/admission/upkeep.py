"""What each process does beside its requests: keeps leases, writes Redis's counts to PostgreSQL, compares runs with the ledger."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import structlog

from nexusrag.billing.admission import repository
from nexusrag.billing.admission.service import Admissions, noon
from nexusrag.billing.admission.store import LEASE_S
from nexusrag.billing.ledger.facade import Plain, figures, flush_plain
from nexusrag.infra.database import Database
from nexusrag.infra.redis import RedisAwayError
from nexusrag.kernel.errors import ApiError

log = structlog.get_logger(__name__)
EVERY_S = 1.0
_RENEW_EVERY = LEASE_S // 3
_AT_ONCE = 500
_COMPARED_AT_ONCE = 20
_LOADED_AT_ONCE = 20
_AGAIN_S = 5.0


class Upkeep:
    """One step a second. Any number of processes may do this at once: one of them writes."""

    def __init__(self, admissions: Admissions, database: Database) -> None:
        self._admissions = admissions
        self._store = admissions.store
        self._database = database
        self._steps = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps up until the process ends, and then tells and writes what is left."""
        await self._try(self._store.beat)  # the first request finds the line open
        task = asyncio.create_task(self._run(), name="admission upkeep")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for step in (self.write, self._admissions.end_unended, self.write):
                await self._try(step)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self._try(self.step)

    async def step(self) -> None:
        self._steps += 1
        await self._store.beat()
        await self._admissions.end_unended()
        if self._steps % _RENEW_EVERY == 0:
            await self._admissions.renew()
        await self.write()
        await self.compare()

    async def write(self) -> None:
        """Plain units, as values: writing them twice changes nothing."""
        if not await self._store.unwritten(1):
            return
        async with self._database.work(None) as work:
            if not await repository.alone(work):
                return
            # Read within the lock: an older count must not be written over a newer one.
            counts = await self._store.unwritten(_AT_ONCE)
            known = {day: count for day, count in counts.items() if count >= 0}
            await flush_plain(work, [Plain(tenant_id, day, count) for (tenant_id, day), count in known.items()])
        if known:
            await self._store.written(known)
        for tenant_id, day in [day for day, count in counts.items() if count < 0][:_LOADED_AT_ONCE]:
            await self._admissions.load(tenant_id, day)  # and is written in a second

    async def compare(self) -> None:
        """Where no run is under way, Redis has as many units of runs as the ledger: those that a dead process took are given back."""
        for tenant_id, day in await self._store.due(_COMPARED_AT_ONCE, _AGAIN_S):
            seen = await self._store.runs(tenant_id, day)
            if min(seen) < 0:
                continue
            async with self._database.work(tenant_id) as work:
                held = await figures(work, noon(day))
            in_ledger = held.day.units - held.day.plain_units, held.month.units - held.month.plain_units
            await self._store.agree(tenant_id, day, seen, in_ledger)

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except (RedisAwayError, ApiError, asyncpg.PostgresError) as error:
            log.info("admission.upkeep_put_off", error=type(error).__name__)
