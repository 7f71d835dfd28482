"""The authorization code flow with PKCE, as Authlib has it; every request goes out through our own guarded way."""

from typing import Any

from authlib.oauth2.client import OAuth2Client

from nexusrag.identity.sso.models import IdentityProvider
from nexusrag.identity.sso.pending import Pending
from nexusrag.identity.sso.refusals import exchange_failed, token_invalid
from nexusrag.identity.sso.wire import Wire
from nexusrag.kernel.errors import ApiError

_DEFAULT_SCOPES = ["openid", "profile", "email"]
_DISCOVERED = {
    "auth_url": "authorization_endpoint", "token_url": "token_endpoint", "jwks_url": "jwks_uri", "userinfo_url": "userinfo_endpoint",
}  # fmt: skip
# What a person says about themselves; everything else in an answer of the userinfo endpoint is left aside.
_PROTOCOL_CLAIMS = frozenset({"iss", "sub", "aud", "exp", "iat", "nbf", "nonce", "azp", "oid", "tid"})


class _Client(OAuth2Client):  # type: ignore[misc]  # Authlib has no types
    """Authlib's client without its session: it prepares requests, we send them."""

    def __init__(self, wire: Wire | None, provider: IdentityProvider, redirect_uri: str, client_secret: str | None = None) -> None:
        super().__init__(
            None,
            client_id=provider.client_id,
            client_secret=client_secret,
            token_endpoint_auth_method="client_secret_basic",  # noqa: S106  # the name of a method
            redirect_uri=redirect_uri,
            scope=["openid", *(scope for scope in provider.scopes or _DEFAULT_SCOPES if scope != "openid")],
            code_challenge_method="S256",
        )
        self._wire = wire
        self._provider = provider

    async def _fetch_token(self, url: str, body: str, headers: dict[str, str], auth: Any, method: str) -> dict[str, Any]:
        assert self._wire is not None
        url, headers, body = auth.prepare(method, url, headers, body)
        return await self._wire.post(url, body, headers, "token endpoint", whose=self._provider)


def authorize_url(provider: IdentityProvider, pending: Pending, state: str) -> str:
    """Where the browser goes; parameters that `auth_url` has already stay."""
    client = _Client(None, provider, pending.redirect_uri)
    url, _ = client.create_authorization_url(provider.auth_url, state=state, code_verifier=pending.code_verifier, nonce=pending.nonce)
    return str(url)


async def exchange(wire: Wire, provider: IdentityProvider, secret: str, pending: Pending, code: str) -> dict[str, Any]:
    """The provider's tokens for a code. Raises SSO_TOKEN_EXCHANGE_FAILED, URL_NOT_ALLOWED."""
    client = _Client(wire, provider, pending.redirect_uri, secret)
    headers: dict[str, str] = {}  # Authlib writes the secret into the headers it is given, so they are made for this request alone
    tokens: dict[str, Any] = await client.fetch_token(
        provider.token_url, code=code, code_verifier=pending.code_verifier, grant_type="authorization_code", headers=headers
    )
    if "error" in tokens or "id_token" not in tokens:
        raise exchange_failed("token endpoint: no ID token")
    return tokens


async def told_of(wire: Wire, provider: IdentityProvider, claims: dict[str, Any], access_token: str | None) -> dict[str, Any]:
    """The claims of an ID token, with what only the userinfo endpoint says. Raises SSO_ID_TOKEN_INVALID when it speaks of somebody else.

    An address and whether it is verified belong together: both come from the same answer.
    """
    if provider.userinfo_url is None or access_token is None:
        return claims
    told = await wire.get(provider.userinfo_url, "userinfo", whose=provider, bearer=access_token)
    if told.get("sub") != claims["sub"]:
        raise token_invalid("userinfo is about somebody else")
    kept = _PROTOCOL_CLAIMS | ({"email", "email_verified", "xms_edov"} if "email" in claims else set())
    return {name: value for name, value in told.items() if name not in kept} | claims


async def discover(wire: Wire, issuer: str) -> dict[str, str]:
    """The URLs in the provider's own description. Raises ValueError with what is wrong with it, URL_NOT_ALLOWED."""
    url = issuer.rstrip("/") + "/.well-known/openid-configuration"
    await wire.demand(url)
    try:
        described = await wire.get(url, "discovery", whose=None)
    except ApiError as error:
        raise ValueError("its description at /.well-known/openid-configuration cannot be read; give the URLs yourself") from error
    if described.get("issuer") != issuer:
        raise ValueError("its description names another issuer; take that one, letter for letter")
    return {field: described[name] for field, name in _DISCOVERED.items() if isinstance(described.get(name), str)}
