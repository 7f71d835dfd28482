"""Access tokens: short-lived JWTs (`at+jwt`) that name a login. What they may do is looked up, never read off them."""

import base64
import json
from typing import Any, Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import BaseModel, ConfigDict, ValidationError

from nexusrag.kernel import clock
from nexusrag.settings.identity import IdentitySettings

_ALGORITHM = "HS256"
_HEADER = {"alg": _ALGORITHM, "typ": "at+jwt"}
_ISSUER = _AUDIENCE = "nexusrag"
_MAX_LENGTH = 2048
_SKEW_S = 60  # by how much the clocks of two of our processes may differ


class Claims(BaseModel):
    """What a token says: whose it is (`sub` in the tenant `tid`), of which login (`sid`), and until when."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    iss: Literal["nexusrag"]
    aud: Literal["nexusrag"]
    sub: str
    sid: str
    tid: str
    iat: int
    exp: int

    @property
    def expired(self) -> bool:
        return self.exp <= clock.now().timestamp()


class AccessTokens:
    """Signs and reads access tokens under AUTH_JWT_SECRET."""

    def __init__(self, settings: IdentitySettings) -> None:
        self._key = OctKey.import_key(settings.auth_jwt_secret.get_secret_value())
        self.ttl_s = settings.auth_access_token_ttl_s

    def sign(self, tenant_id: str, user_id: str, session_id: str) -> str:
        """A token of this login, good for `ttl_s` seconds while the login is."""
        now = int(clock.now().timestamp())
        claims: dict[str, Any] = {
            "iss": _ISSUER, "aud": _AUDIENCE, "sub": user_id, "sid": session_id, "tid": tenant_id, "iat": now, "exp": now + self.ttl_s,
        }  # fmt: skip
        return jwt.encode(_HEADER, claims, self._key, [_ALGORITHM])

    def read(self, token: str) -> Claims | None:
        """What one of our tokens says, expired or not; None for anything else.

        The header must be the one that `sign` writes: a token that names another algorithm, a key (jku, jwk, x5u, kid) or
        extensions (crit) is none of ours, whatever its signature. A stranger's header is not shown to the library.
        """
        if len(token) > _MAX_LENGTH or token.count(".") != 2 or not _is_ours(token.partition(".")[0]):
            return None
        try:
            read = jwt.decode(token, self._key, [_ALGORITHM])
            claims = Claims.model_validate(read.claims)
        except (JoseError, ValidationError, ValueError):
            return None
        return claims if claims.iat <= clock.now().timestamp() + _SKEW_S and claims.iat < claims.exp else None


def _is_ours(header: str) -> bool:
    try:
        return bool(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))) == _HEADER)
    except (ValueError, RecursionError):
        return False
