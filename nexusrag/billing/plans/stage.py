"""The entitlement stage."""

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.features import Feature
from nexusrag.kernel.principal import Principal
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage

# Costs have a code of their own.
_REFUSED = {
    Feature.COST_VISIBILITY: ErrorCode.COST_FEATURE_NOT_ENABLED,
    Feature.COST_CONTROLS: ErrorCode.COST_FEATURE_NOT_ENABLED,
    Feature.CHARGEBACK_REPORTS: ErrorCode.COST_FEATURE_NOT_ENABLED,
}


def require(principal: Principal, feature: Feature) -> None:
    """Refuse what the tenant's plan lacks."""
    if feature not in principal.features:
        code = _REFUSED.get(feature, ErrorCode.FEATURE_NOT_ENABLED)
        raise ApiError(code, "Feature not enabled for tenant plan", {"feature_key": feature.value})


async def check_feature(call: CallContext) -> None:
    if call.gate.feature is Feature.SCIM and not call.of(Settings).identity.scim_enabled:
        raise ApiError(ErrorCode.IDENTITY_FEATURE_DISABLED, "SCIM is switched off here.")
    if call.gate.feature is not None:
        require(call.principal, call.gate.feature)


def _needed(gate: Gate, method: str) -> bool:
    return gate.feature is not None


STAGE = Stage("entitlement", check_feature, _needed)
