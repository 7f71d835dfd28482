"""The loop of a process: writes what was measured and what was done about it, and reads anew how tenants stand."""

import asyncio
from collections import Counter
from time import monotonic

import asyncpg
import structlog

from nexusrag.infra.database import Database
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.events import EventType
from nexusrag.kernel.traffic import RouteClass
from nexusrag.operations.sla.decisions import Decisions
from nexusrag.operations.sla.measure import Measurer
from nexusrag.operations.sla.verdict import Decision
from nexusrag.security.audit.facade import write_system

log = structlog.get_logger(__name__)
_EVENTS = {
    Decision.WARN: EventType.SLA_WARNED,
    Decision.DEGRADE: EventType.SLA_DEGRADED,
    Decision.SHED: EventType.SLA_SHED,
}
# A change is read at once, and a storm of them this often.
_LEAST_PAUSE_S = 0.1
# One event in so long for each tenant, class and decision, with the number of requests since the last: a flood must not fill the log.
_AUDIT_EVERY_S = 60.0


class Keeper:
    """Runs from `start` to `close`; what was measured is written once more at the end."""

    def __init__(self, database: Database, measurer: Measurer, decisions: Decisions, every_s: float) -> None:
        self._database = database
        self._measurer = measurer
        self._decisions = decisions
        self._every_s = every_s
        self._written_at: dict[tuple[str, RouteClass, str, Decision], float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name="service levels")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()

    async def flush(self) -> None:
        """Write what there is. Failing to costs nobody anything: it is tried again."""
        try:
            await self._measurer.flush()
            await self._write_down()
        except (ApiError, asyncpg.PostgresError, OSError) as error:
            log.warning("sla.unwritten", error=type(error).__name__)

    async def _keep(self) -> None:
        due = monotonic() + self._every_s
        while True:
            await self._decisions.refresh()
            await asyncio.sleep(_LEAST_PAUSE_S)
            try:
                async with asyncio.timeout(max(due - monotonic(), 0)):
                    await self._decisions.stale.wait()
            except TimeoutError:
                due = monotonic() + self._every_s
                await self.flush()

    async def _write_down(self) -> None:
        """Events about what was done to requests, in the logs of their tenants."""
        now, met = monotonic(), self._decisions.enforced
        due = {key: number for key, number in met.items() if now - self._written_at.get(key, float("-inf")) >= _AUDIT_EVERY_S}
        for key, number in due.items():
            tenant_id, route_class, policy_id, decision = key
            about = {"route_class": route_class.value, "policy_id": policy_id, "requests": number}
            async with self._database.work(tenant_id) as work:
                await write_system(work, _EVENTS[decision], about, about=(Resource.SLA_POLICY, policy_id))
            met.subtract(Counter({key: number}))
            self._written_at[key] = now
        for key in [key for key, number in met.items() if number <= 0]:
            del met[key]
