"""Use cases of maintenance."""

from datetime import timedelta

from nexusrag.access.roles.facade import is_operator
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.operations.maintenance import repository, work
from nexusrag.operations.maintenance.schemas import LastRun, MaintenanceRun, RetentionStatus
from nexusrag.operations.maintenance.tasks import LATER, TASKS
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

_WITHIN_S = 20.0


async def run(call: CallContext, name: str) -> MaintenanceRun:
    """Do a task now. Raises NOT_IMPLEMENTED for one that this release does not have, CONFLICT while it is being done."""
    if name in LATER:
        raise ApiError(ErrorCode.NOT_IMPLEMENTED, f"This release does not do {name}; it has {', '.join(TASKS)}.")
    if name not in TASKS:
        raise ApiError(ErrorCode.VALIDATION_ERROR, f"task: use one of {', '.join(TASKS)}.", {"field": "query.task"})
    async with call.outside_work():
        ran = await work.run(call.resources, TASKS[name], by=call.principal.subject_id, within_s=_WITHIN_S)
    call.about(Resource.MAINTENANCE, name)
    call.record(task=name, status=ran.state, deleted_rows=ran.deleted_rows)
    return MaintenanceRun(task=name, status=ran.state, deleted_rows=ran.deleted_rows)


async def status(call: CallContext) -> RetentionStatus:
    """What is kept for how long, and when it was last looked through."""
    settings = call.of(Settings)
    rows = {row["task"]: row for row in await repository.newest(call.db)}
    told = is_operator(call.principal, settings)
    return RetentionStatus(
        tenant_id=call.tenant_id,
        configured_days={name: task.days(settings.maintenance) for name, task in TASKS.items() if task.days is not None},
        last_run_by_task={
            name: LastRun(
                last_run_at=row["started_at"],
                finished_at=row["finished_at"],
                outcome=row["state"],
                deleted_rows=row["deleted_rows"] if told else None,
            )
            if (row := rows.get(name)) is not None
            else None
            for name in TASKS
        },
        next_schedule=await repository.last_slot(call.db, work.HOUR_UTC) + timedelta(days=1),
    )
