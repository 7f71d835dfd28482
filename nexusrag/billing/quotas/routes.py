"""HTTP face of quotas: /v1/admin/quotas."""

from nexusrag.billing.quotas import gates, service
from nexusrag.billing.quotas.schemas import TenantQuotaOut, TenantQuotaPatch
from nexusrag.web.call import Call
from nexusrag.web.router import Router

router = Router("admin/quotas", tag="Quotas and usage")


@router.get("/{tenant_id}", gate=gates.READ)
async def get_quota(call: Call) -> TenantQuotaOut:
    """The limits in force for a tenant: its plan's, and those set for it alone. Operators of the platform may name any tenant."""
    return await service.describe(call)


@router.patch("/{tenant_id}", gate=gates.CHANGE)
async def change_quota(call: Call, body: TenantQuotaPatch) -> TenantQuotaOut:
    """Set limits for one tenant, at once and everywhere, below what it has used already if need be; `null` leaves one to the plan."""
    return await service.change(call, body)
