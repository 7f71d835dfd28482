"""Who a credential belongs to, as far as this process remembers: for what must be decided before anything is spent on a request."""

from collections.abc import Iterable, MutableMapping

from nexusrag.identity.credentials.access_tokens import AccessTokens
from nexusrag.identity.credentials.cache import CredentialCache
from nexusrag.infra.resources import Resources
from nexusrag.kernel.principal import Principal
from nexusrag.kernel.tokens import keyed_hash, kind_of
from nexusrag.settings import Settings


def peek(resources: Resources, headers: Iterable[tuple[bytes, bytes]], seen: MutableMapping[bytes, bytes]) -> Principal | None:
    """The caller whose credential was checked not long ago. Decides nothing about what they may do: it may be no longer good.

    `seen` is kept for the connection: the credential that came last, which mostly comes again, and what it is known by. A hash costs more
    than all else here.
    """
    auth = resources.get(Settings).auth
    name = auth.auth_api_key_header.lower().encode()
    given = [value for key, value in headers if key == name]
    if len(given) != 1:
        return None
    key = seen.get(given[0])
    if key is None:
        key = _key_of(resources, given[0])
        if key is None:
            return None
        seen.clear()
        seen[given[0]] = key
    cache = resources.get(CredentialCache)
    return cache.get(key) or cache.last_known(key)


def _key_of(resources: Resources, given: bytes) -> bytes | None:
    try:
        scheme, _, token = given.decode("ascii").partition(" ")
    except UnicodeDecodeError:
        return None
    token = token or scheme
    if kind_of(token) is not None:
        return keyed_hash(token, resources.get(Settings).auth.auth_key_pepper.get_secret_value())
    claims = resources.get(AccessTokens).read(token)
    return f"{claims.tid} {claims.sub} {claims.sid}".encode() if claims is not None else None
