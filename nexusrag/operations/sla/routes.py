"""HTTP face of service levels: /v1/admin/sla and /v1/ops/slo."""

from typing import Annotated, Any, Literal

from fastapi import Query

from nexusrag.operations.sla import gates, reports, service
from nexusrag.operations.sla.schemas import (
    AssignmentOut,
    AssignmentPatch,
    IncidentList,
    IncidentOut,
    MeasurementList,
    PolicyIn,
    PolicyList,
    PolicyOut,
    PolicyPatch,
    RouteClasses,
    SloOut,
)
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

admin = Router("admin/sla", tag="Service levels")
ops = Router("ops/slo", tag="Operations")


@admin.get("/policies", gate=gates.LIST)
async def list_sla_policies(call: Call, include_global: bool = True) -> PolicyList:
    """List the tenant's SLA policies, and with `include_global` those of the platform."""
    return PolicyList(items=await service.policies(call, include_global=include_global))


@admin.post("/policies", gate=gates.CREATE, status_code=201)
async def create_sla_policy(call: Call, body: PolicyIn) -> PolicyOut:
    """Create a policy. It binds nobody until somebody is assigned to it."""
    return await service.create(call, body)


@admin.patch("/policies/{policy_id}", gate=gates.UPDATE)
async def update_sla_policy(call: Call, policy: Loaded[Any], patch: PolicyPatch) -> PolicyOut:
    """Change a policy. Its version rises, and whoever is under it is judged anew."""
    return await service.update(call, policy, patch)


@admin.post("/policies/{policy_id}/enable", gate=gates.ENABLE)
async def enable_sla_policy(call: Call, policy: Loaded[Any]) -> PolicyOut:
    """Let a policy bind those who are assigned to it."""
    return await service.switch(call, policy, on=True)


@admin.post("/policies/{policy_id}/disable", gate=gates.DISABLE)
async def disable_sla_policy(call: Call, policy: Loaded[Any]) -> PolicyOut:
    """Let a policy bind nobody, at once and everywhere."""
    return await service.switch(call, policy, on=False)


@admin.get("/assignments/{tenant_id}", gate=gates.ASSIGNMENT)
async def get_sla_assignment(call: Call) -> AssignmentOut:
    """The policy that a tenant is under, and how it stands with it."""
    return await service.assignment(call)


@admin.patch("/assignments/{tenant_id}", gate=gates.ASSIGN)
async def assign_sla_policy(call: Call, body: AssignmentPatch) -> AssignmentOut:
    """Put a tenant under a policy, with what differs for it."""
    return await service.assign(call, body)


@admin.get("/measurements", gate=gates.MEASUREMENTS)
async def list_sla_measurements(
    call: Call,
    tenant_id: str | None = None,
    route_class: RouteClasses | None = None,
    window: Literal["1m", "5m"] = "1m",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> MeasurementList:
    """What a tenant's callers met, newest window first."""
    return MeasurementList(items=await reports.measurements(call, route_class, window, limit))


@admin.get("/incidents", gate=gates.INCIDENTS)
async def list_sla_incidents(call: Call, status: Literal["open", "resolved"] | None = None) -> IncidentList:
    """Breaches of the tenant's policy, newest first."""
    return IncidentList(items=await service.incidents(call, status))


@admin.post("/incidents/{incident_id}/resolve", gate=gates.RESOLVE)
async def resolve_sla_incident(call: Call, incident: Loaded[Any]) -> IncidentOut:
    """Say that a breach is over. What is still bad opens another incident."""
    return await service.resolve(call, incident)


@ops.get("", gate=gates.SLO)
async def get_slo(call: Call) -> SloOut:
    """How the objectives are met: of the caller's tenant, and for operators of the platform of everybody."""
    return await reports.slo(call)
