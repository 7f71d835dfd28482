"""Maintenance on the wire."""

from datetime import datetime

from pydantic import BaseModel


class MaintenanceRun(BaseModel):
    """`status` is `succeeded`, or `partial` where there was more than could be removed at once: run the task again."""

    task: str
    status: str
    deleted_rows: int


class LastRun(BaseModel):
    """`deleted_rows` counts rows of all tenants and is shown to operators of the platform alone."""

    last_run_at: datetime
    finished_at: datetime | None
    outcome: str
    deleted_rows: int | None


class RetentionStatus(BaseModel):
    """How many days things are kept, by task, and when each was last removed. `next_schedule` is when all is looked through again."""

    tenant_id: str
    configured_days: dict[str, int]
    last_run_by_task: dict[str, LastRun | None]
    next_schedule: datetime
