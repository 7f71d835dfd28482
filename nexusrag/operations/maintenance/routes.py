"""HTTP face of maintenance: /v1/admin/maintenance and /v1/admin/retention."""

from typing import Annotated

from fastapi import Query

from nexusrag.operations.maintenance import gates, service
from nexusrag.operations.maintenance.schemas import MaintenanceRun, RetentionStatus
from nexusrag.web.call import Call
from nexusrag.web.router import Router

maintenance = Router("admin/maintenance", tag="Operations")
retention = Router("admin/retention", tag="Operations")


@maintenance.post("/run", gate=gates.RUN)
async def run_maintenance(call: Call, task: Annotated[str, Query(max_length=64)]) -> MaintenanceRun:
    """Remove now what would be removed tonight: `prune_idempotency`, `prune_audit`, `cleanup_actions`, `prune_usage` or `prune_jobs`."""
    return await service.run(call, task)


@retention.get("/status", gate=gates.STATUS)
async def get_retention_status(call: Call) -> RetentionStatus:
    """How long things are kept, and when what is older was last removed."""
    return await service.status(call)
