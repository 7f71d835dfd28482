"""A run of a task: batch after batch, each in a transaction of its own, by one process at a time."""

from dataclasses import dataclass
from time import monotonic

import asyncpg
import structlog

from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.operations.maintenance import repository
from nexusrag.operations.maintenance.tasks import BATCH, TASKS, Task
from nexusrag.security.audit.facade import write_system
from nexusrag.settings import Settings

log = structlog.get_logger(__name__)
# Longer than a batch can take: statements end after API_DB_STATEMENT_TIMEOUT_MS.
_LEASE_S = 120.0
HOUR_UTC = 3
_DAILY_S = 60.0


@dataclass(frozen=True, slots=True)
class Ran:
    """`partial`: time was up before all was removed; the rest goes the next time."""

    state: str
    deleted_rows: int


async def run(resources: Resources, task: Task, *, by: str, within_s: float) -> Ran:
    """Remove what has been kept for long enough. Raises CONFLICT while another process does so."""
    async with resources.get(Database).work(None) as work:
        run_id = await repository.begin(work, task.name, by, _LEASE_S)
    if run_id is None:
        raise ApiError(ErrorCode.CONFLICT, f"{task.name} is running already; see /v1/admin/retention/status.")
    return await _go_on(resources, task, run_id, within_s)


async def _go_on(resources: Resources, task: Task, run_id: int, within_s: float) -> Ran:
    database, kept = resources.get(Database), resources.get(Settings).maintenance
    end, deleted, state = monotonic() + within_s, 0, "running"
    try:
        while state == "running":
            async with database.work(None) as work:
                removed = await task.remove(work, kept)
                await repository.go_on(work, run_id, deleted + removed, _LEASE_S)
            deleted += removed
            state = "succeeded" if removed < BATCH else "partial" if monotonic() > end else state
    except (ApiError, asyncpg.PostgresError) as error:
        async with database.work(None) as work:
            await repository.finish(work, run_id, "failed", deleted, type(error).__name__)
        raise
    async with database.work(None) as work:
        await repository.finish(work, run_id, state, deleted)
    return Ran(state, deleted)


async def daily(resources: Resources) -> None:
    """Each task once a day, by whichever worker comes first."""
    database = resources.get(Database)
    for task in TASKS.values():
        async with database.work(None) as work:
            since = await repository.last_slot(work, HOUR_UTC)
            due = await repository.is_due(work, task.name, since)
            run_id = await repository.begin(work, task.name, None, _LEASE_S, unless_since=since) if due else None
        if run_id is not None:
            await _by_itself(resources, task, run_id)


async def _by_itself(resources: Resources, task: Task, run_id: int) -> None:
    try:
        ran = await _go_on(resources, task, run_id, _DAILY_S)
    except (ApiError, asyncpg.PostgresError) as error:
        log.warning("maintenance.not_done", task=task.name, error=type(error).__name__)
        return
    if ran.deleted_rows:
        async with resources.get(Database).work(None) as work:
            await write_system(work, EventType.MAINTENANCE_RUN, {"task": task.name, "deleted_rows": ran.deleted_rows})
