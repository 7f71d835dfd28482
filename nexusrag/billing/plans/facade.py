"""What other domains may ask of plans."""

from nexusrag.billing.plans.entitlements import Entitlement, TenantPlan
from nexusrag.billing.plans.schemas import Quota
from nexusrag.billing.plans.service import held_by
from nexusrag.billing.plans.stage import require

__all__ = ["Entitlement", "Quota", "TenantPlan", "held_by", "require"]
