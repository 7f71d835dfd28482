"""Providers through which somebody may log in: found by their id alone, since whoever begins a login is not known yet."""

from dataclasses import dataclass

from nexusrag.identity.credentials.facade import plan_of
from nexusrag.identity.sso import repository
from nexusrag.identity.sso.models import IdentityProvider
from nexusrag.identity.sso.refusals import provider_missing
from nexusrag.identity.sso.service.providers import demand_on
from nexusrag.infra.database import Database
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.features import Feature
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


@dataclass(frozen=True, slots=True)
class OpenProvider:
    """An enabled provider of an active tenant. `is_home`: that is the home tenant; `jit`: newcomers get an account."""

    provider: IdentityProvider
    is_home: bool
    jit: bool

    @property
    def tenant_id(self) -> str:
        return self.provider.tenant_id

    @property
    def version(self) -> str:
        return version_of(self.provider)


def version_of(provider: IdentityProvider) -> str:
    """Another one after each change of the provider."""
    return provider.updated_at.isoformat()


async def opened(call: CallContext, provider_id: str) -> OpenProvider:
    """Raises IDENTITY_FEATURE_DISABLED, SSO_PROVIDER_NOT_FOUND, and FEATURE_NOT_ENABLED when the tenant's plan lacks single sign-on."""
    demand_on(call)
    async with call.of(Database).work(None) as work:
        row = await repository.tenant_of(work, provider_id)
    if row is None or not row["enabled"] or row["tenant_status"] != "active":
        raise provider_missing()
    _, features = plan_of(row, call.of(Settings).auth.default_plan)
    if Feature.SSO not in features:
        raise ApiError(ErrorCode.FEATURE_NOT_ENABLED, "Feature not enabled for tenant plan", {"feature_key": Feature.SSO.value})
    async with call.of(Database).work(row["tenant_id"]) as work:
        provider = await repository.find(work, provider_id)
    if provider is None:
        raise provider_missing()
    return OpenProvider(provider, row["is_home"], provider.jit_enabled and Feature.JIT in features)
