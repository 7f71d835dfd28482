"""The cookie by which a browser is known again when it comes back from the identity provider."""

import hashlib
import hmac
import re
import secrets

from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")


def mark(call: CallContext, ttl_s: int) -> str:
    """Set the cookie; the hash of its value. One that the browser has is kept, so that logins in two windows do not cut each other off."""
    value = _given(call) or secrets.token_urlsafe(32)
    secure, name = _named(call)
    path = "/; Secure" if secure else "/v1/auth/sso"
    call.headers["Set-Cookie"] = f"{name}={value}; Path={path}; Max-Age={ttl_s}; HttpOnly; SameSite=Lax"
    return _hash(value)


def is_marked(call: CallContext, expected: str) -> bool:
    """Whether this is the browser whose mark has this hash."""
    value = _given(call)
    return value is not None and hmac.compare_digest(_hash(value), expected)


def _given(call: CallContext) -> str | None:
    value = call.request.cookies.get(_named(call)[1], "")
    return value if _VALUE.fullmatch(value) else None


def _named(call: CallContext) -> tuple[bool, str]:
    """Browsers take a cookie of the first name from this very host alone, and by https: no neighbour can plant one."""
    secure = call.of(Settings).runtime.environment == "production"
    return secure, "__Host-nrag_sso" if secure else "nrag_sso"


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
