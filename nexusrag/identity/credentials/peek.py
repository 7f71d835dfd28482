"""Who a credential belongs to, as far as this process remembers: for what must be decided before anything is spent on a request."""

from collections.abc import Iterable

from nexusrag.identity.credentials.access_tokens import AccessTokens
from nexusrag.identity.credentials.cache import CredentialCache
from nexusrag.infra.resources import Resources
from nexusrag.kernel.principal import Principal
from nexusrag.kernel.tokens import keyed_hash, kind_of
from nexusrag.settings import Settings


def peek(resources: Resources, headers: Iterable[tuple[bytes, bytes]]) -> Principal | None:
    """The caller whose credential was checked not long ago. Decides nothing about what they may do: it may be no longer good."""
    auth = resources.get(Settings).auth
    name = auth.auth_api_key_header.lower().encode()
    given = [value for key, value in headers if key == name]
    if len(given) != 1:
        return None
    try:
        scheme, _, token = given[0].decode("ascii").partition(" ")
    except UnicodeDecodeError:
        return None
    token = token or scheme
    cache = resources.get(CredentialCache)
    if kind_of(token) is not None:
        key = keyed_hash(token, auth.auth_key_pepper.get_secret_value())
    elif (claims := resources.get(AccessTokens).read(token)) is not None:
        key = f"{claims.tid} {claims.sub} {claims.sid}".encode()
    else:
        return None
    return cache.get(key) or cache.last_known(key)
