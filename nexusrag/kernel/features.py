"""Features that a plan can have, by the keys that clients see, and which plan has which."""

from collections.abc import Mapping
from enum import StrEnum


class Feature(StrEnum):
    LOCAL_PGVECTOR = "feature.retrieval.local_pgvector"
    AWS_BEDROCK = "feature.retrieval.aws_bedrock"
    GCP_VERTEX = "feature.retrieval.gcp_vertex"
    TTS = "feature.tts"
    OPS_ADMIN_ACCESS = "feature.ops_admin_access"
    AUDIT_ACCESS = "feature.audit_access"
    CORPORA_PATCH = "feature.corpora_patch_provider_config"
    BILLING_WEBHOOK_TEST = "feature.billing_webhook_test"
    HIGH_QUOTA_TIER = "feature.high_quota_tier"
    SSO = "feature.identity.sso"
    SCIM = "feature.identity.scim"
    JIT = "feature.identity.jit"
    COST_VISIBILITY = "feature.cost_visibility"
    COST_CONTROLS = "feature.cost_controls"
    CHARGEBACK_REPORTS = "feature.chargeback_reports"


class PlanId(StrEnum):
    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"

    @property
    def shown(self) -> str:
        """The name that people read."""
        return self.value.capitalize()


_ENTERPRISE_ALONE = {
    Feature.AWS_BEDROCK, Feature.HIGH_QUOTA_TIER, Feature.SCIM, Feature.JIT, Feature.CHARGEBACK_REPORTS,
}  # fmt: skip

FEATURES_OF: Mapping[PlanId, frozenset[Feature]] = {
    PlanId.FREE: frozenset({Feature.LOCAL_PGVECTOR}),
    PlanId.PRO: frozenset(Feature) - _ENTERPRISE_ALONE,
    PlanId.ENTERPRISE: frozenset(Feature),
}


def plan_in_force(assigned: str | None, is_home: bool, default: str) -> PlanId:
    """The plan of a tenant: what was assigned, else enterprise for the home tenant and the default for all others."""
    return PlanId(assigned or (PlanId.ENTERPRISE if is_home else default))


def entitled(plan: PlanId, overrides: Mapping[str, bool]) -> frozenset[Feature]:
    """What a tenant may use: the plan's features, with those switched on or off for this tenant alone."""
    on = {feature for feature in Feature if overrides.get(feature.value) is True}
    off = {feature for feature in Feature if overrides.get(feature.value) is False}
    return (FEATURES_OF[plan] | on) - off
