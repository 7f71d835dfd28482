"""What other domains may ask of plans."""

from nexusrag.billing.plans.entitlements import Entitlement, TenantPlan
from nexusrag.billing.plans.schemas import TenantFeature
from nexusrag.billing.plans.service import held_by
from nexusrag.billing.plans.stage import require

__all__ = ["Entitlement", "TenantFeature", "TenantPlan", "held_by", "require"]
