"""Use cases of the console's bootstrap."""

from nexusrag import __version__
from nexusrag.access.roles.facade import is_operator
from nexusrag.billing.plans.facade import held_by
from nexusrag.billing.quotas.facade import snapshot
from nexusrag.console.bootstrap.schemas import UiApi, UiBootstrap, UiEntitlement, UiPlan, UiPrincipal
from nexusrag.flags.switches.facade import Held, current
from nexusrag.kernel import clock
from nexusrag.kernel.principal import Principal
from nexusrag.kernel.switches import Switch
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.envelope import API_VERSION


async def bootstrap(call: CallContext) -> UiBootstrap:
    """All that the console needs before it shows anything."""
    settings = call.of(Settings)
    held = await held_by(call.db, settings)
    return UiBootstrap(
        principal=_principal(call.principal, settings),
        plan=UiPlan(plan_id=held.plan.value, plan_name=held.plan.shown),
        entitlements={one.feature.value: UiEntitlement(enabled=one.enabled, config_json=one.config) for one in held.entitlements},
        quota_snapshot=await snapshot(call.db, settings),
        feature_flags=_offered(settings, await current(call.resources), call.tenant_id),
        server_time=clock.iso(clock.now()) or "",
        api=UiApi(version=API_VERSION, release=__version__, openapi_url=f"/{API_VERSION}/openapi.json"),
    )


def _principal(principal: Principal, settings: Settings) -> UiPrincipal:
    return UiPrincipal(
        tenant_id=principal.tenant_id,
        role=principal.role.value,
        api_key_id=principal.credential_id,
        subject_id=principal.subject_id,
        credential=principal.credential.value,
        custom_role=principal.custom_role,
        email=principal.email,
        groups=sorted(principal.groups.values()),
        actions=sorted(principal.actions),
        is_operator=is_operator(principal, settings),
    )


def _offered(settings: Settings, held: Held, tenant_id: str) -> dict[str, bool]:
    return {
        "audio": settings.speech.tts_provider != "none" and held.speaks(tenant_id),
        "runs": not held.is_on(Switch.RUN, tenant_id),
        "uploads": not held.is_on(Switch.INGEST, tenant_id),
        "writes": not held.frozen,
        "policies": settings.auth.authz_abac_enabled,
        "sso": settings.identity.sso_enabled,
        "scim": settings.identity.scim_enabled,
        "registration": settings.identity.auth_registration != "closed",
    }
