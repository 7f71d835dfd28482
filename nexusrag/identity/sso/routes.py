"""HTTP face of single sign-on: /v1/admin/identity/providers and /v1/auth/sso."""

from typing import Annotated, Literal

from fastapi import Query

from nexusrag.identity.sso import gates
from nexusrag.identity.sso.models import IdentityProvider
from nexusrag.identity.sso.schemas import (
    ProviderCreate,
    ProviderList,
    ProviderOut,
    ProviderPatch,
    ProviderSummaryList,
    SecretRotation,
    SsoLogin,
    SsoStarted,
)
from nexusrag.identity.sso.service import callback, providers, start
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

admin = Router("admin/identity/providers", tag="Single sign-on")
public = Router("auth/sso", tag="Single sign-on")
_Text = Annotated[str | None, Query(max_length=4096)]


@admin.get("", gate=gates.LIST)
async def list_providers(call: Call) -> ProviderList:
    """List the tenant's identity providers, oldest first."""
    return await providers.list_providers(call)


@admin.post("", gate=gates.CREATE, status_code=201)
async def create_provider(call: Call, body: ProviderCreate) -> ProviderOut:
    """Make an identity provider, switched off at first. URLs that are left out are read from the issuer's own description.

    The secret stands elsewhere: `client_secret_ref` names an environment variable or a file. SAML is not offered in this release.
    """
    return await providers.create(call, body)


@admin.patch("/{provider_id}", gate=gates.CHANGE)
async def change_provider(call: Call, provider: Loaded[IdentityProvider], body: ProviderPatch) -> ProviderOut:
    """Change an identity provider; logins that are under way begin again. The issuer stays once somebody has logged in."""
    return await providers.change(call, provider, body)


@admin.post("/{provider_id}/enable", gate=gates.ENABLE)
async def enable_provider(call: Call, provider: Loaded[IdentityProvider]) -> ProviderOut:
    """Let people log in through the provider."""
    return await providers.enable(call, provider)


@admin.post("/{provider_id}/disable", gate=gates.DISABLE)
async def disable_provider(call: Call, provider: Loaded[IdentityProvider]) -> ProviderOut:
    """Let nobody log in through the provider, and log out everybody who did: within a second none of their sessions is accepted."""
    return await providers.disable(call, provider)


@admin.post("/{provider_id}/rotate-secret-ref", gate=gates.CHANGE)
async def rotate_secret_ref(call: Call, provider: Loaded[IdentityProvider], body: SecretRotation) -> ProviderOut:
    """Take the client secret from another place from now on."""
    return await providers.rotate(call, provider, body.client_secret_ref)


@public.get("/providers", gate=gates.DISCOVER)
async def discover_providers(call: Call, tenant_id: Annotated[str | None, Query(max_length=63)] = None) -> ProviderSummaryList:
    """List the providers through which people of a tenant can log in, where SSO_PUBLIC_DISCOVERY_ENABLED allows it."""
    return await start.discover(call, tenant_id)


@public.get("/oidc/{provider_id}/start", gate=gates.START)
async def start_login(
    call: Call, provider_id: str, return_to: _Text = None, response_mode: Literal["json", "redirect"] = "json"
) -> SsoStarted:
    """Begin a login: the address to send the browser to, or with `response_mode=redirect` a redirect there.

    The answer sets a cookie, and the login can be completed by the browser that has it alone. `return_to` is a page on one of
    SSO_ALLOWED_REDIRECT_HOSTS: the callback then leads there, with `session_token` and `expires_at`, or `error`, in the fragment.
    """
    return await start.start(call, provider_id, return_to, redirect=response_mode == "redirect")


@public.get("/oidc/{provider_id}/callback", gate=gates.CALLBACK)
async def complete_login(
    call: Call, provider_id: str, code: _Text = None, state: _Text = None, iss: _Text = None, error: _Text = None
) -> SsoLogin:
    """Complete a login, as the identity provider sends the browser here. `session_token` is the credential from now on."""
    answer = callback.Answer(code=code, state=state, iss=iss, error=error)
    login: SsoLogin = await callback.complete(call, provider_id, answer)
    return login
