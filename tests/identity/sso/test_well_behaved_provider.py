"""A login through a provider that others have written: oidc-provider-mock."""

import warnings
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.identity.sso.world import SSO, keep_secret, made
from tests.support.api import Api
from tests.support.installation import http

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it still uses what Authlib is about to drop
    import oidc_provider_mock


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    ada = oidc_provider_mock.User(
        sub="ada", claims={"email": "ada@example.com", "email_verified": True, "groups": ["Editors"], "name": "Ada"}
    )
    with oidc_provider_mock.run_server_in_thread(require_nonce=True, user_claims=[ada]) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:authlib")
async def test_a_login_from_discovery_to_session(api: Api, issuer: str) -> None:
    admin = await api.person()
    body = {
        "type": "oidc", "name": "Mock", "issuer": issuer, "client_id": "nexusrag", "client_secret_ref": keep_secret(api, admin.tenant),
        "default_role": "reader", "role_mapping_json": {"groups": {"Editors": "editor"}}, "jit_enabled": True,
    }  # fmt: skip
    provider = await made(admin, body)
    path = f"{SSO}/oidc/{provider['id']}"
    async with http(api.base_url) as browser, httpx.AsyncClient() as consent:
        url = (await browser.get(f"{path}/start")).json()["data"]["authorize_url"]
        back = (await consent.post(url, data={"sub": "ada"})).headers["Location"]
        assert urlsplit(back).path == f"{path}/callback"
        answer = await browser.get(back)
        assert answer.status_code == 200, answer.text
        session = answer.json()["data"]
        assert session["role"] == "editor"
        me = (await browser.get("/v1/auth/me", headers={"Authorization": f"Bearer {session['session_token']}"})).json()["data"]
        assert (me["email"], me["display_name"]) == ("ada@example.com", "Ada")
        denied = (await consent.post((await browser.get(f"{path}/start")).json()["data"]["authorize_url"], data={"action": "deny"})).headers
        assert parse_qs(urlsplit(denied["Location"]).query)["error"] == ["access_denied"]
