"""A local OpenID provider that lies on demand. Untouched it is well-behaved: codes used once, PKCE, client secret, signed ID tokens.

A test changes what it says: `claims` are added to each ID token (None takes one away), `header` to its header, `sign` makes the
token itself, `answers` replaces the answer of a path by a coroutine function of the request.
"""

import base64
import functools
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Key = RSAKey | ECKey
CLIENT_ID, CLIENT_SECRET = "nexusrag-client", "s3cret~with-odd.signs_"
_KINDS = {"RS": RSAKey, "PS": RSAKey, "ES": ECKey}


@functools.cache
def rsa(kid: str = "rsa") -> RSAKey:
    """A key of 2048 bits, made once for each name."""
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


@functools.cache
def ec(curve: Any = "P-256", kid: str = "ec") -> ECKey:
    return ECKey.generate_key(curve, {"kid": kid, "use": "sig"})


def b64(data: bytes | str) -> str:
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def signed(header: dict[str, Any], payload: bytes | str, key: Any) -> str:
    """A token exactly as it is told, sensible or not; with a made-up signature where the key cannot make one."""
    signing = f"{b64(json.dumps(header))}.{b64(payload)}"
    if key is None:
        return f"{signing}."
    if isinstance(key, bytes):  # by hand: the library takes no public key for a shared secret
        return f"{signing}.{b64(hmac.digest(key, signing.encode(), 'sha256'))}"
    algorithm = jws.JWSRegistry.algorithms.get(str(header.get("alg")))
    fits = algorithm is not None and isinstance(key, _KINDS.get(algorithm.name[:2], ()))
    return f"{signing}.{b64(algorithm.sign(signing.encode(), key) if algorithm is not None and fits else b'x' * 256)}"


class OpenIDProvider:
    """The provider. `seen` holds (path, form or query, headers) of each request."""

    def __init__(self) -> None:
        self.url = ""
        self.key: Key = rsa()
        self.published: list[dict[str, Any]] = [rsa().as_dict(private=False)]
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.sign: Callable[[dict[str, Any], dict[str, Any]], Any] = lambda header, claims: signed(header, json.dumps(claims), self.key)
        self.token_extra: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._tokens: dict[str, str] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(seen == path for seen, _, _ in self.seen)

    def code_for(self, authorize_url: str, subject: str = "sub-1") -> tuple[str, str]:
        """What a person's consent brings about: a code and the state to come back with."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(authorize_url).query).items()}
        assert (query["response_type"], query["client_id"], query["code_challenge_method"]) == ("code", CLIENT_ID, "S256"), query
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = {**query, "sub": subject}
        return code, query["state"]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        fields = {**request.query, **{name: str(value) for name, value in (await request.post()).items()}}
        self.seen.append((request.path, fields, dict(request.headers)))
        own: dict[str, Answer] = {
            "/.well-known/openid-configuration": self._description, "/token": self._token, "/keys": self._keys, "/userinfo": self._userinfo,
        }  # fmt: skip
        answer = self.answers.get(request.path) or own.get(request.path)
        return await answer(request) if answer is not None else web.Response(status=404)

    async def _description(self, request: web.Request) -> web.StreamResponse:
        places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys", "userinfo_endpoint": "userinfo"}
        return web.json_response({"issuer": self.url} | {name: f"{self.url}/{path}" for name, path in places.items()})

    async def _keys(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"keys": self.published})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = self.seen[-1][1]
        begun = self._codes.pop(form.get("code", ""), None)
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {basic}":
            return web.json_response({"error": "invalid_client"}, status=401)
        challenge = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if begun is None or challenge != begun["code_challenge"] or form.get("redirect_uri") != begun["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        access_token = secrets.token_urlsafe(16)
        self._tokens[access_token] = begun["sub"]
        tokens = {"access_token": access_token, "token_type": "Bearer", "expires_in": 300, "id_token": self.id_token(begun)}
        return web.json_response(_without_none(tokens | self.token_extra))

    def id_token(self, begun: dict[str, str]) -> Any:
        """A token for whoever began this."""
        now = int(time())
        claims = {"iss": self.url, "sub": begun["sub"], "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": begun.get("nonce")}
        algorithm = "RS256" if isinstance(self.key, RSAKey) else {"P-256": "ES256", "P-384": "ES384"}[self.key.curve_name]
        header = {"alg": algorithm, "kid": self.key.kid, "typ": "JWT"}
        return self.sign(_without_none(header | self.header), _without_none(claims | self.claims))

    async def _userinfo(self, request: web.Request) -> web.StreamResponse:
        subject = self._tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if subject is None:
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response({"sub": subject, **self.userinfo})


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def answering(body: bytes | str, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer that is always the same."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


@asynccontextmanager
async def openid_provider() -> AsyncIterator[OpenIDProvider]:
    """A running provider on a free port of 127.0.0.1."""
    provider = OpenIDProvider()
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()
