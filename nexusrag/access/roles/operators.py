"""Who operates the platform, and so reaches beyond their own tenant."""

from nexusrag.kernel.principal import Principal
from nexusrag.settings import Settings


def is_operator(principal: Principal, settings: Settings) -> bool:
    """An admin of a tenant named in PLATFORM_OPERATOR_TENANTS; while that is empty, of the home tenant."""
    return principal.is_admin and operates(principal.tenant_id, principal.is_home, settings)


def operates(tenant_id: str, is_home: bool, settings: Settings) -> bool:
    """Whether the tenant's admins operate the platform."""
    named = {tenant.strip() for tenant in settings.auth.platform_operator_tenants.split(",") if tenant.strip()}
    return is_home if not named else "*" in named or tenant_id in named
