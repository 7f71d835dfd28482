"""Identity providers: listed, made, changed, switched. Whoever decides who vouches for people could become any of them."""

from typing import Any

from nexusrag.access.roles.facade import demand_within
from nexusrag.identity.sso import flow, repository, secrets
from nexusrag.identity.sso.models import IdentityProvider
from nexusrag.identity.sso.schemas import ProviderCreate, ProviderList, ProviderOut, ProviderPatch
from nexusrag.identity.sso.wire import Wire
from nexusrag.infra.changes import TENANT
from nexusrag.kernel import clock
from nexusrag.kernel.actions import ACTIONS_OF, Role
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.ids import new_id
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

_MOST = 100
_URLS = ("issuer", "auth_url", "token_url", "jwks_url", "userinfo_url")
_NEEDED = ("auth_url", "token_url", "jwks_url")
_CLEARED_BY_NULL = {"scopes", "role_mapping", "userinfo_url"}
_COLUMNS = {"scopes_json": "scopes", "role_mapping_json": "role_mapping"}


def demand_on(call: CallContext) -> None:
    """Raises IDENTITY_FEATURE_DISABLED where SSO_ENABLED is false."""
    if not call.of(Settings).identity.sso_enabled:
        raise ApiError(ErrorCode.IDENTITY_FEATURE_DISABLED, "Single sign-on is switched off here.")


async def load(call: CallContext, provider_id: str) -> IdentityProvider:
    """The tenant's provider, which nobody else changes until the transaction ends, or not found."""
    demand_on(call)
    call.resource_id = provider_id
    return await _held(call, provider_id)


async def list_providers(call: CallContext) -> ProviderList:
    """All providers of the tenant."""
    demand_on(call)
    return ProviderList(items=[_shown(call, provider) for provider in await repository.providers(call.db)])


async def create(call: CallContext, body: ProviderCreate) -> ProviderOut:
    """Raises URL_NOT_ALLOWED, VALIDATION_ERROR for SAML and where discovery fails, CONFLICT when there are too many providers."""
    demand_on(call)
    _demand_admin(call)
    if body.type == "saml":
        raise _wrong("type", "saml is not offered in this release; use oidc")
    given = body.model_dump(mode="json", exclude_none=True)
    urls = {name: given[name] for name in _URLS if name in given}
    async with call.outside_work():  # the network takes its time
        await _demand_allowed(call, urls)
        if not urls.keys() >= set(_NEEDED):
            urls = await _discovered(call, urls)
    if await repository.count(call.db) >= _MOST:
        raise ApiError(ErrorCode.CONFLICT, f"A tenant has at most {_MOST} identity providers.")
    columns = {_COLUMNS.get(name, name): value for name, value in given.items()} | urls
    now = clock.now()
    provider = IdentityProvider(tenant_id=call.tenant_id, id=new_id("idp"), created_at=now, updated_at=now, enabled=False, **columns)
    call.session.add(provider)
    await call.session.flush()
    call.resource_id = provider.id
    return _shown(call, provider)


async def change(call: CallContext, provider: IdentityProvider, patch: ProviderPatch) -> ProviderOut:
    """Raises URL_NOT_ALLOWED, and CONFLICT for another issuer once people are known by what this one says of them."""
    _demand_admin(call)
    sent = patch.model_dump(mode="json", exclude_unset=True)
    given = {_COLUMNS.get(name, name): value for name, value in sent.items()}
    given = {name: value for name, value in given.items() if value is not None or name in _CLEARED_BY_NULL}
    urls = {name: given[name] for name in _URLS if given.get(name)}
    if urls:
        async with call.outside_work():
            await _demand_allowed(call, urls)
        provider = await _held(call, provider.id)
    if given.get("issuer", provider.issuer) != provider.issuer and await repository.is_used(call.db, provider.id):
        raise ApiError(ErrorCode.CONFLICT, "People have logged in through this issuer; make another provider for another one.")
    return await _set(call, provider, given)


async def rotate(call: CallContext, provider: IdentityProvider, client_secret_ref: str) -> ProviderOut:
    """Take the secret from elsewhere."""
    _demand_admin(call)
    return await _set(call, provider, {"client_secret_ref": client_secret_ref})


async def enable(call: CallContext, provider: IdentityProvider) -> ProviderOut:
    """Let people log in."""
    _demand_admin(call)
    return await _set(call, provider, {"enabled": True})


async def disable(call: CallContext, provider: IdentityProvider) -> ProviderOut:
    """Let nobody log in any more, and end the logins that there are."""
    shown = await _set(call, provider, {"enabled": False})
    call.record(sessions_ended=await repository.end_sessions(call.db, provider.id))
    await call.announce(TENANT, call.tenant_id)
    return shown


async def _set(call: CallContext, provider: IdentityProvider, values: dict[str, Any]) -> ProviderOut:
    changed = sorted(name for name, value in values.items() if getattr(provider, name) != value)
    for name in changed:
        setattr(provider, name, values[name])
    call.unchanged = not changed
    call.record(changed=changed)
    await call.session.flush()
    return _shown(call, provider)


async def _held(call: CallContext, provider_id: str) -> IdentityProvider:
    provider = await repository.hold(call.db, provider_id, change=True)
    if provider is None:
        raise not_found("identity provider")
    return provider


async def _demand_allowed(call: CallContext, urls: dict[str, str]) -> None:
    for field, url in urls.items():
        try:
            await call.of(Wire).demand(url)
        except ApiError as error:
            raise ApiError(error.code, f"{field}: {error.message}", {"field": f"body.{field}"}) from None
    if "?" in urls.get("issuer", ""):
        raise _wrong("issuer", "an issuer has no query")


async def _discovered(call: CallContext, urls: dict[str, str]) -> dict[str, str]:
    """All URLs: those given, and the rest from the issuer's description."""
    try:
        found = await flow.discover(call.of(Wire), urls["issuer"])
    except ValueError as error:
        raise _wrong("issuer", str(error)) from None
    missing = [name for name in _NEEDED if name not in urls and name not in found]
    if missing:
        raise _wrong("issuer", f"its description lacks {', '.join(missing)}; give them yourself")
    await _demand_allowed(call, {name: url for name, url in found.items() if name not in urls})
    return found | urls


def _demand_admin(call: CallContext) -> None:
    demand_within(call.principal, ACTIONS_OF[Role.ADMIN])


def _shown(call: CallContext, provider: IdentityProvider) -> ProviderOut:
    found = secrets.resolve(call.of(Settings), call.tenant_id, call.principal.is_home, provider.client_secret_ref)
    return ProviderOut.of(provider, secret_found=found is not None)


def _wrong(field: str, message: str) -> ApiError:
    fault = {"field": f"body.{field}", "message": message, "type": "value_error"}
    return ApiError(ErrorCode.VALIDATION_ERROR, f"body.{field}: {message}", {"errors": [fault]})
