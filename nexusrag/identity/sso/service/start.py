"""Beginning a login, and choosing through whom."""

import secrets

from nexusrag.identity.sso import flow, redirects, repository
from nexusrag.identity.sso.pending import Pending, keep
from nexusrag.identity.sso.schemas import ProviderSummary, ProviderSummaryList, SsoStarted
from nexusrag.identity.sso.service import browser
from nexusrag.identity.sso.service.opened import opened
from nexusrag.identity.sso.service.providers import demand_on
from nexusrag.identity.sso.wire import Wire
from nexusrag.infra.database import Database
from nexusrag.infra.redis import Redis
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import is_tenant_id
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def discover(call: CallContext, tenant_id: str | None) -> ProviderSummaryList:
    """The enabled providers of a tenant; none for one that does not exist. Raises IDENTITY_FEATURE_DISABLED where nobody may know, and
    VALIDATION_ERROR when no tenant is named.
    """
    demand_on(call)
    if not call.of(Settings).identity.sso_public_discovery_enabled:
        raise ApiError(
            ErrorCode.IDENTITY_FEATURE_DISABLED, "Identity providers are not listed here; ask an admin for the address to log in."
        )
    if tenant_id is None:
        fault = {"field": "query.tenant_id", "message": "name the tenant", "type": "missing"}
        raise ApiError(ErrorCode.VALIDATION_ERROR, "query.tenant_id: name the tenant", {"errors": [fault]})
    if not is_tenant_id(tenant_id):
        return ProviderSummaryList(items=[])
    async with call.of(Database).work(tenant_id) as work:
        found = await repository.providers(work, enabled_only=True)
    try:
        if found:
            await opened(call, found[0].id)  # an active tenant, whose plan has single sign-on
    except ApiError as error:
        if error.code not in (ErrorCode.SSO_PROVIDER_NOT_FOUND, ErrorCode.FEATURE_NOT_ENABLED):
            raise
        found = []
    return ProviderSummaryList(items=[ProviderSummary.of(provider) for provider in found])


async def start(call: CallContext, provider_id: str, return_to: str | None, *, redirect: bool) -> SsoStarted:
    """Raises what `opened` does, BAD_REQUEST for a place that no login leads to, URL_NOT_ALLOWED, SERVICE_UNAVAILABLE without Redis."""
    found = await opened(call, provider_id)
    settings = call.of(Settings)
    if return_to is not None:
        redirects.demand_returnable(settings, return_to)
    redirect_uri = redirects.callback_url(call, provider_id)
    await call.of(Wire).demand(found.provider.auth_url)
    ttl_s = settings.identity.sso_state_ttl_seconds
    state = secrets.token_urlsafe(32)
    pending = Pending(
        provider_id=provider_id,
        provider_version=found.version,
        browser=browser.mark(call, ttl_s),
        nonce=secrets.token_urlsafe(32),
        nonce_until=clock.now().timestamp() + settings.identity.sso_nonce_ttl_seconds,
        code_verifier=secrets.token_urlsafe(48),
        redirect_uri=redirect_uri,
        return_to=return_to,
    )
    await keep(call.of(Redis), state, pending, ttl_s)
    url = flow.authorize_url(found.provider, pending, state)
    call.headers.update(redirects.HEADERS)
    if redirect:
        # Without a fragment of its own, browsers would carry on the one of the address that led here. A callback may have led here by
        # `return_to`, and its fragment holds a session, which a provider of another tenant would then get.
        call.status, call.headers["Location"] = 302, f"{url}#_"
    return SsoStarted(authorize_url=url)
