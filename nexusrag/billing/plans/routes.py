"""HTTP face of plans: /v1/admin/plans and /v1/self-serve/plan."""

from nexusrag.billing.plans import gates, service
from nexusrag.billing.plans.schemas import (
    FeatureOverride,
    PlanAssignment,
    PlanOut,
    TenantPlanOut,
    UpgradeAccepted,
    UpgradeRequest,
)
from nexusrag.web.call import Call
from nexusrag.web.router import Router

admin = Router("admin/plans", tag="Plans")
self_serve = Router("self-serve/plan", tag="Plans")


@admin.get("", gate=gates.LIST)
async def list_plans(call: Call) -> list[PlanOut]:
    """The plans that there are, and what each contains."""
    return service.catalogue()


@admin.get("/{tenant_id}", gate=gates.READ)
async def get_tenant_plan(call: Call) -> TenantPlanOut:
    """The plan in force for a tenant, and what it may use. Operators of the platform may name any tenant, others their own."""
    return await service.describe(call)


@admin.patch("/{tenant_id}", gate=gates.ASSIGN)
async def assign_plan(call: Call, body: PlanAssignment) -> TenantPlanOut:
    """Assign a plan, at once and everywhere. After `effective_to` the tenant has the default plan again."""
    return await service.assign(call, body)


@admin.patch("/{tenant_id}/overrides", gate=gates.OVERRIDE)
async def override_feature(call: Call, body: FeatureOverride) -> TenantPlanOut:
    """Switch one feature on or off for this tenant, whatever its plan; `"enabled": null` leaves it to the plan again."""
    return await service.override(call, body)


@self_serve.post("/upgrade-request", gate=gates.REQUEST, status_code=202)
async def request_upgrade(call: Call, body: UpgradeRequest) -> UpgradeAccepted:
    """Ask the operators of the platform for another plan. Asked again while it is open, it is the same request."""
    return await service.request_upgrade(call, body)
