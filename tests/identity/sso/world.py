"""A tenant with an identity provider, and browsers of people who log in through it."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from fastapi import FastAPI

from nexusrag.infra.changes import Changes
from tests.support.api import Api, Person
from tests.support.installation import http
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIDProvider
from tests.support.soon import soon

PROVIDERS = "/v1/admin/identity/providers"
SSO = "/v1/auth/sso"
INVALID = ("SSO_ID_TOKEN_INVALID", 401)
EXCHANGE = ("SSO_TOKEN_EXCHANGE_FAILED", 502)
STATE = ("SSO_INVALID_STATE", 400)
MISSING = ("SSO_PROVIDER_NOT_FOUND", 404)
JIT_OFF = ("SSO_JIT_DISABLED", 403)


def keep_secret(api: Api, tenant: str, name: str = "idp", secret: str = CLIENT_SECRET) -> str:
    """Put a client secret where the tenant's providers find it; the reference to it."""
    directory: Path = api.servers.home / "sso-secrets" / tenant
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(f"{secret}\n")
    return f"file:{name}"


def described(idp: OpenIDProvider, ref: str = "file:idp", **fields: Any) -> dict[str, Any]:
    """The body that makes a provider."""
    urls = {"issuer": idp.url, "auth_url": f"{idp.url}/authorize", "token_url": f"{idp.url}/token", "jwks_url": f"{idp.url}/keys"}
    own = {"type": "oidc", "name": "IdP", "client_id": CLIENT_ID, "client_secret_ref": ref, "default_role": "reader", "jit_enabled": True}
    return own | urls | fields


class Browser:
    """One browser: it keeps cookies, and follows no redirect by itself."""

    def __init__(self, base_url: str, idp: OpenIDProvider, provider_id: str) -> None:
        self.client: httpx.AsyncClient = http(base_url)
        self.idp = idp
        self.path = f"{SSO}/oidc/{provider_id}"

    async def begin(self, **params: str) -> str:
        """Begin a login; the address at the provider."""
        answer = await self.client.get(f"{self.path}/start", params=params)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["authorize_url"])

    async def back(self, code: str | None, state: str | None, **params: str) -> httpx.Response:
        """Come back from the provider."""
        given = {"code": code, "state": state, **params}
        return await self.client.get(f"{self.path}/callback", params={name: value for name, value in given.items() if value is not None})

    async def login(self, subject: str = "sub-1", **params: str) -> httpx.Response:
        """A whole login; the callback's answer."""
        return await self.back(*self.idp.code_for(await self.begin(**params), subject))

    async def session(self, subject: str = "sub-1") -> dict[str, Any]:
        """A login that succeeds; what the callback says."""
        answer = await self.login(subject)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data


class World:
    """A tenant, its admin, its identity provider as the outside has it (`idp`) and as the product has it (`provider`)."""

    def __init__(self, api: Api, admin: Person, idp: OpenIDProvider, provider: dict[str, Any]) -> None:
        self.api, self.admin, self.idp, self.provider = api, admin, idp, provider
        self._browsers: list[Browser] = []

    @property
    def id(self) -> str:
        return str(self.provider["id"])

    def browser(self, provider_id: str | None = None, base_url: str | None = None) -> Browser:
        browser = Browser(base_url or self.api.base_url, self.idp, provider_id or self.id)
        self._browsers.append(browser)
        return browser

    async def change(self, **fields: Any) -> None:
        answer = await self.admin.patch(f"{PROVIDERS}/{self.id}", json=fields)
        assert answer.status_code == 200, answer.text
        self.provider = answer.json()["data"]

    async def me(self, token: str) -> httpx.Response:
        async with http(self.api.base_url, token) as client:
            return await client.get("/v1/auth/me")

    async def close(self) -> None:
        for browser in self._browsers:
            await browser.client.aclose()


async def made(admin: Person, body: dict[str, Any]) -> dict[str, Any]:
    """A provider that is enabled."""
    answer = await admin.post(PROVIDERS, json=body)
    assert answer.status_code == 201, answer.text
    answer = await admin.post(f"{PROVIDERS}/{answer.json()['data']['id']}/enable")
    assert answer.status_code == 200, answer.text
    provider: dict[str, Any] = answer.json()["data"]
    return provider


async def hearing(app: FastAPI) -> None:
    """Wait until the process hears of changes, and so keeps callers for a while."""

    async def hears() -> bool:
        return app.state.resources.get(Changes).live

    await soon(hears, True, within_s=10)


def fragment(answer: httpx.Response) -> tuple[str, dict[str, str]]:
    """Where a redirect leads, and what it carries in the fragment."""
    assert answer.status_code == 302, answer.text
    place, _, fields = answer.headers["Location"].partition("#")
    return place, {name: values[0] for name, values in parse_qs(fields).items()}


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
