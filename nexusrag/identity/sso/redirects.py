"""Where a login may lead a browser: this API's own callback and the page it began on, on hosts that the operator named."""

import re
from urllib.parse import urlencode

from fastapi.responses import RedirectResponse

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.hosts import named_host

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Printable ASCII without backslashes, user names and fragments: browsers and we read such a URL alike.
_RETURN = re.compile(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:[/?][!-\[\]-~]*)?", re.IGNORECASE | re.ASCII)
_LONGEST = 2048
# The answers of a login hold a session: they are not stored, and their address is told to nobody.
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def callback_url(call: CallContext, provider_id: str) -> str:
    """The callback's address as the browser reaches it. Raises BAD_REQUEST for a host that is not named in the settings."""
    settings, host = call.of(Settings), named_host(call.request.scope)
    scheme = "https" if _is_production(settings) else call.request.url.scheme
    _demand_named(settings, scheme, host, "the host of this request")
    return f"{scheme}://{call.request.headers['host'].lower()}/v1/auth/sso/oidc/{provider_id}/callback"


def demand_returnable(settings: Settings, url: str) -> None:
    """Raises BAD_REQUEST unless a login may lead to this page."""
    match = _RETURN.fullmatch(url) if len(url) <= _LONGEST and "#" not in url else None
    if match is None:
        raise ApiError(ErrorCode.BAD_REQUEST, "return_to: must be an https:// address without user name and fragment.")
    _demand_named(settings, match[1].lower(), match[2].lower(), "return_to")


def back_to(url: str, **fields: str) -> RedirectResponse:
    """The browser goes to `url`, which finds `fields` in the fragment: that part is sent to no server and stands in no log."""
    return RedirectResponse(f"{url}#{urlencode(fields)}", status_code=302, headers=HEADERS)


def _demand_named(settings: Settings, scheme: str, host: str | None, what: str) -> None:
    named = host in settings.identity.redirect_hosts
    if not (named and scheme == "https" if _is_production(settings) else named or host in _LOOPBACK):
        message = "Logins lead to hosts in SSO_ALLOWED_REDIRECT_HOSTS alone, outside development by https"
        raise ApiError(ErrorCode.BAD_REQUEST, f"{message}; {what} is not one of them.")


def _is_production(settings: Settings) -> bool:
    return settings.runtime.environment == "production"
