"""Which ID tokens are believed: OpenID Connect Core 3.1.3.7, and stricter where it leaves a choice."""

from typing import Any

import orjson
from authlib.oidc.core.claims import CodeIDToken
from joserfc.errors import ClaimError, JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact, validate_compact

from nexusrag.identity.sso.refusals import token_invalid
from nexusrag.kernel import clock

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_MAX_LIFE_S = 24 * 3600
_MAX_SUBJECT = 255
# Headers by which a token would bring its own key, or demand what we do not do.
_REFUSED_HEADERS = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"})


class _Registry(JWSRegistry):
    """The algorithms above. Unknown headers are ignored, as RFC 7515 has it; a token may carry thousands of groups."""

    max_payload_length = 512 * 1024


_REGISTRY = _Registry(algorithms=ALGORITHMS, strict_check_header=False)


def opened(token: object) -> CompactSignature:
    """A token whose signature was not checked yet. Raises SSO_ID_TOKEN_INVALID for what is none of a kind that we accept."""
    if not isinstance(token, str) or token.count(".") != 2 or not token.isascii():
        raise token_invalid("no signed token")
    try:
        compact = extract_compact(token.encode(), registry=_REGISTRY)
        header = compact.headers()
        _REGISTRY.check_header(header)
        _REGISTRY.get_alg(header["alg"])
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise token_invalid(_why(error)) from None
    if _REFUSED_HEADERS & set(header):
        raise token_invalid("a header that is not accepted")
    if str(header.get("typ", "JWT")).upper() != "JWT":
        raise token_invalid("another type of token")
    return compact


def verified(
    compact: CompactSignature, key: RSAKey | ECKey, *, issuer: str, client_id: str, nonce: str, access_token: str | None, skew_s: int
) -> dict[str, Any]:
    """The claims of a token that this provider made for us, in answer to this login, just now. Raises SSO_ID_TOKEN_INVALID."""
    try:
        if not validate_compact(compact, key, registry=_REGISTRY):
            raise token_invalid("signature")
        claims = orjson.loads(compact.payload)
        if not isinstance(claims, dict):
            raise token_invalid("no claims")
        demanded = {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client_id}}
        told = {"nonce": nonce, "client_id": client_id, "access_token": access_token}
        CodeIDToken(claims, compact.headers(), demanded, told).validate(now=clock.now().timestamp(), leeway=skew_s)
        _demand_plain(claims)
    except (JoseError, ValueError, TypeError) as error:
        raise token_invalid(_why(error)) from None
    return claims


def _demand_plain(claims: dict[str, Any]) -> None:
    """What the library leaves open: a subject that can be kept, and a short life."""
    subject = claims["sub"]
    if not 1 <= len(subject) <= _MAX_SUBJECT or not subject.isprintable():
        raise token_invalid("sub")
    if not 0 < claims["exp"] - claims["iat"] <= _MAX_LIFE_S:
        raise token_invalid("life")


def _why(error: Exception) -> str:
    """Words for the log that hold nothing of the token."""
    if isinstance(error, ClaimError):
        return f"{error.error}: {error.claim}"
    return error.error if isinstance(error, JoseError) else type(error).__name__
