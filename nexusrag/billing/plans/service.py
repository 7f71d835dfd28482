"""Use cases of plans: look, assign, override, ask for another."""

from nexusrag.billing.plans import repository
from nexusrag.billing.plans.entitlements import TenantPlan, entitlements
from nexusrag.billing.plans.schemas import (
    FeatureOverride,
    OpenRequest,
    PlanAssignment,
    PlanOut,
    TenantPlanOut,
    UpgradeAccepted,
    UpgradeRequest,
)
from nexusrag.billing.webhooks import facade as webhooks
from nexusrag.infra.changes import TENANT
from nexusrag.infra.database import Work
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import PlanId, plan_in_force
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


def catalogue() -> list[PlanOut]:
    """Every plan, the smallest first."""
    return [PlanOut.of(plan) for plan in PlanId]


async def held_by(work: Work, settings: Settings) -> TenantPlan:
    """What the transaction's tenant has."""
    row = await repository.find(work)
    plan = plan_in_force(row["plan_id"], row["is_home"], settings.auth.default_plan)
    return TenantPlan(work.tenant_id or "", plan, row["effective_from"], row["effective_to"], entitlements(plan, row["overrides"] or {}))


async def describe(call: CallContext) -> TenantPlanOut:
    """The plan of the tenant that the request names."""
    held = await held_by(call.db, call.of(Settings))
    requests = [OpenRequest.model_validate(dict(row)) for row in await repository.open_requests(call.db)]
    return TenantPlanOut.of(held, requests)


async def assign(call: CallContext, body: PlanAssignment) -> TenantPlanOut:
    """Assign a plan, and close the requests for it or for less."""
    before = await held_by(call.db, call.of(Settings))
    await repository.assign(call.db, body.plan_id.value, body.effective_to, call.principal.subject_id)
    plans = list(PlanId)
    await repository.approve_requests(call.db, plans[: plans.index(body.plan_id) + 1])
    await _changed(call)
    call.record(plan_id=body.plan_id.value, previous_plan_id=before.plan.value, effective_to=body.effective_to)
    return await describe(call)


async def override(call: CallContext, body: FeatureOverride) -> TenantPlanOut:
    """Switch or configure one feature for this tenant alone."""
    given = body.model_fields_set
    removed = "enabled" in given and body.enabled is None
    await repository.put_override(
        call.db,
        body.feature_key.value,
        body.enabled,
        body.config_json,
        call.principal.subject_id,
        switches="enabled" in given,
        configures="config_json" in given or removed,
    )
    await _changed(call)
    call.record(feature_key=body.feature_key.value, changed=sorted(given - {"feature_key"}), enabled=body.enabled)
    return await describe(call)


async def request_upgrade(call: CallContext, body: UpgradeRequest) -> UpgradeAccepted:
    """Ask for a plan; it waits until an operator assigns one. Whoever bills hears of it once."""
    row = await repository.request_upgrade(call.db, body.target_plan, body.reason, call.principal.subject_id)
    call.about(Resource.PLAN, call.tenant_id)
    told = {"request_id": row["id"], "target_plan": body.target_plan}
    call.record(**told)
    if row["made"]:
        call.also_record(EventType.BILLING_UPGRADE_REQUESTED, **told)
        await webhooks.tell(call.resources, call.db, EventType.BILLING_UPGRADE_REQUESTED, told)
    return UpgradeAccepted(request_id=row["id"], status=row["status"])


async def _changed(call: CallContext) -> None:
    """Every process forgets what it knew of the tenant's callers; the log says whose operator it was."""
    await call.announce(TENANT, call.tenant_id)
    call.about(Resource.PLAN, call.tenant_id)
    call.record(by_tenant=call.principal.tenant_id)
