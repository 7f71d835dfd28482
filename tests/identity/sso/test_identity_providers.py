"""Identity providers as admins see them: made, changed, switched; secrets by reference; what a plan and the settings allow."""

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nexusrag.identity.sso.secrets import FORM
from tests.identity.accounts.people import account
from tests.identity.sso.world import EXCHANGE, PROVIDERS, SSO, STATE, World, described, hearing, keep_secret, made, query
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, rows
from tests.support.installation import Servers, http, serving
from tests.support.openid_provider import CLIENT_SECRET, OpenIDProvider, answering
from tests.support.processes import free_port
from tests.support.soon import soon

SHAPE = {
    "id", "tenant_id", "type", "name", "issuer", "client_id", "client_secret_ref", "client_secret_found", "auth_url", "token_url",
    "jwks_url", "userinfo_url", "scopes_json", "enabled", "default_role", "role_mapping_json", "jit_enabled", "created_at", "updated_at",
}  # fmt: skip


def contract(idp: OpenIDProvider) -> dict[str, Any]:
    """The body that existing clients send."""
    return {
        "type": "oidc", "name": "Okta", "issuer": idp.url, "client_id": "0oa123", "client_secret_ref": "OKTA_OIDC_CLIENT_SECRET",
        "auth_url": f"{idp.url}/v1/authorize", "token_url": f"{idp.url}/v1/token", "jwks_url": f"{idp.url}/v1/keys",
        "scopes_json": ["openid", "profile", "email", "groups"], "default_role": "reader",
        "role_mapping_json": {"groups": {"Admins": "admin", "Editors": "editor"}}, "jit_enabled": True,
    }  # fmt: skip


async def events(api: Api, admin: Person) -> list[str]:
    found = await rows(
        api, "select event_type from audit_events where tenant_id = $1 and event_type like 'identity.provider.%' order by id", admin.tenant
    )
    return [row["event_type"].rpartition(".")[2] for row in found]


async def test_the_life_of_a_provider(api: Api, idp: OpenIDProvider) -> None:
    admin = await api.person()
    answer = await admin.post(PROVIDERS, json=contract(idp))
    assert answer.status_code == 201, answer.text
    provider = answer.json()["data"]
    assert set(provider) == SHAPE
    assert {name: provider[name] for name in contract(idp)} == contract(idp)
    assert (provider["enabled"], provider["tenant_id"], provider["userinfo_url"]) == (False, admin.tenant, None)
    path = f"{PROVIDERS}/{provider['id']}"
    for verb, enabled in (("enable", True), ("disable", False), ("disable", False), ("enable", True)):
        assert (await admin.post(f"{path}/{verb}")).json()["data"]["enabled"] is enabled
    changed = (await admin.patch(path, json={"name": "Okta EU", "jit_enabled": False, "default_role": "editor"})).json()["data"]
    assert (changed["name"], changed["jit_enabled"], changed["default_role"], changed["enabled"]) == ("Okta EU", False, "editor", True)
    same = (await admin.patch(path, json={"name": None, "client_id": None})).json()["data"]
    assert (same["name"], same["client_id"]) == ("Okta EU", "0oa123")
    cleared = (await admin.patch(path, json={"scopes_json": None, "role_mapping_json": None})).json()["data"]
    assert (cleared["scopes_json"], cleared["role_mapping_json"]) == (None, None)
    rotated = await admin.post(f"{path}/rotate-secret-ref", json={"client_secret_ref": "OKTA_OIDC_CLIENT_SECRET_V2"})
    assert rotated.json()["data"]["client_secret_ref"] == "OKTA_OIDC_CLIENT_SECRET_V2"
    assert [item["id"] for item in (await admin.get(PROVIDERS)).json()["data"]["items"]] == [provider["id"]]
    assert await events(api, admin) == ["created", "enabled", "disabled", "enabled", "updated", "updated", "updated"]
    updates = await audited(api, admin.tenant, "identity.provider.updated")
    assert "client_secret_ref" in updates[2]["metadata"]
    assert "V2" not in str(updates)


async def test_providers_stay_within_their_tenant(api: Api, world: World) -> None:
    stranger = await api.person()
    path = f"{PROVIDERS}/{world.id}"
    for answer in (
        await stranger.patch(path, json={"name": "mine"}),
        await stranger.post(f"{path}/enable"),
        await stranger.post(f"{path}/disable"),
        await stranger.post(f"{path}/rotate-secret-ref", json={"client_secret_ref": "file:mine"}),
    ):
        assert error_of(answer) == ("NOT_FOUND", 404)
    assert (await stranger.get(PROVIDERS)).json()["data"]["items"] == []


@pytest.mark.parametrize(
    "ref",
    ["hunter2", CLIENT_SECRET, "0oaSECRETvalue", "AUTH_KEY_PEPPER", "DATABASE_URL", "UI_CURSOR_SECRET", "AUTH_JWT_SECRET", "OPENAI_API_KEY",
     "AWS_SECRET_ACCESS_KEY", "okta_client_secret", "file:", "file:../other/idp", "file:/etc/passwd", "file:a/b", "file:..", "env:X", "",
     "CLIENT_SECRET\n", "file:a\x01b", "X" * 150 + "_CLIENT_SECRET", "$OKTA_CLIENT_SECRET", "file:.hidden"],
)  # fmt: skip
async def test_a_secret_is_named_and_never_sent(api: Api, idp: OpenIDProvider, ref: str) -> None:
    admin = await api.person()
    provider = await made(admin, described(idp))
    for answer in (
        await admin.post(PROVIDERS, json=described(idp, ref)),
        await admin.patch(f"{PROVIDERS}/{provider['id']}", json={"client_secret_ref": ref}),
        await admin.post(f"{PROVIDERS}/{provider['id']}/rotate-secret-ref", json={"client_secret_ref": ref}),
    ):
        assert error_of(answer) == ("VALIDATION_ERROR", 422)
        assert ref in FORM or ref not in answer.text
    assert (
        await count(api, "select count(*) from identity_providers where tenant_id = $1 and client_secret_ref = $2", admin.tenant, ref) == 0
    )


async def test_files_of_secrets_are_the_tenants_own(api: Api, idp: OpenIDProvider) -> None:
    mine, theirs = await api.person(), await api.person()
    ref = keep_secret(api, mine.tenant, "shared-name")
    for admin, found in ((mine, True), (theirs, False)):
        answer = await admin.post(PROVIDERS, json=described(idp, ref))
        assert answer.json()["data"]["client_secret_found"] is found
    for name, content in (("empty", ""), ("long", "x" * 5000), ("umlaut", "schlüssel"), ("two-lines", "one\ntwo")):
        answer = await mine.post(PROVIDERS, json=described(idp, keep_secret(api, mine.tenant, name, content)))
        assert answer.json()["data"]["client_secret_found"] is False, name


async def test_variables_serve_tenants_that_operate_the_platform(api: Api, idp: OpenIDProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise an admin of one tenant could have another's secret sent to a server of their own."""
    monkeypatch.setitem(os.environ, "SOME_TEST_CLIENT_SECRET", CLIENT_SECRET)
    for admin, found in ((await api.operator(), True), (await api.person(), False)):
        provider = await made(admin, described(idp, "SOME_TEST_CLIENT_SECRET"))
        assert provider["client_secret_found"] is found
        world = World(api, admin, idp, provider)
        answer = await world.browser().login(f"sub-of-{admin.tenant}")
        assert answer.status_code == 200 if found else error_of(answer) == EXCHANGE
        await admin.post(f"{PROVIDERS}/{provider['id']}/disable")
        await world.close()


async def test_a_rotated_secret_is_used_from_then_on(world: World) -> None:
    keep_secret(world.api, world.admin.tenant, "old", "no longer good")
    for name, good in (("old", False), ("idp", True)):
        answer = await world.admin.post(f"{PROVIDERS}/{world.id}/rotate-secret-ref", json={"client_secret_ref": f"file:{name}"})
        assert answer.status_code == 200
        assert ((await world.browser().login()).status_code == 200) is good


BODIES: list[dict[str, Any]] = [
    {"type": "ldap"}, {"type": None}, {"name": ""}, {"name": " "}, {"name": "n" * 129}, {"issuer": ""}, {"enabled": True},
    {"client_id": ""}, {"client_id": "a:b"}, {"client_id": "a b"}, {"default_role": "owner"}, {"default_role": None},
    {"jit_enabled": "perhaps"}, {"tenant_id": "x"}, {"id": "idp_mine"}, {"client_secret": CLIENT_SECRET},
    {"scopes_json": "openid"}, {"scopes_json": ["a b"]}, {"scopes_json": ["x"] * 51}, {"scopes_json": ['"']},
    {"role_mapping_json": []}, {"role_mapping_json": {}}, {"role_mapping_json": {"groups": ["Admins"]}},
    {"role_mapping_json": {"groups": {"Admins": "owner"}}}, {"role_mapping_json": {"groups": {"": "admin"}}},
    {"role_mapping_json": {"groups": {}, "claim": "x"}}, {"role_mapping_json": {"claim": "x"}}, {"role_mapping_json": {"mapping": {}}},
    {"role_mapping_json": {"groups": {str(number): "admin" for number in range(1001)}}},
]  # fmt: skip


@pytest.mark.parametrize("fields", BODIES)
async def test_a_faulty_provider_is_not_made(api: Api, idp: OpenIDProvider, fields: dict[str, Any]) -> None:
    admin = await api.person()
    answer = await admin.post(PROVIDERS, json=described(idp, **fields))
    assert answer.status_code == 422, answer.text
    assert await count(api, "select count(*) from identity_providers where tenant_id = $1", admin.tenant) == 0


async def test_saml_is_said_to_be_missing(api: Api, idp: OpenIDProvider) -> None:
    admin = await api.person()
    answer = await admin.post(PROVIDERS, json=described(idp, type="saml"))
    assert error_of(answer) == ("VALIDATION_ERROR", 422)
    assert "saml is not offered" in answer.json()["error"]["message"]


async def test_an_issuer_has_no_query(world: World) -> None:
    for answer in (
        await world.admin.post(PROVIDERS, json=described(world.idp, issuer=f"{world.idp.url}?x=y")),
        await world.admin.patch(f"{PROVIDERS}/{world.id}", json={"issuer": f"{world.idp.url}?x=y"}),
    ):
        assert error_of(answer) == ("VALIDATION_ERROR", 422)


async def test_the_issuer_says_where_everything_is(api: Api, idp: OpenIDProvider) -> None:
    admin = await api.person()
    body = described(idp, keep_secret(api, admin.tenant))
    for name in ("auth_url", "token_url", "jwks_url"):
        del body[name]
    provider = await made(admin, body)
    places = {"auth_url": "authorize", "token_url": "token", "jwks_url": "keys", "userinfo_url": "userinfo"}
    assert {name: provider[name] for name in places} == {name: f"{idp.url}/{place}" for name, place in places.items()}
    own = await admin.post(PROVIDERS, json={**body, "token_url": f"{idp.url}/own"})
    assert (own.json()["data"]["token_url"], own.json()["data"]["jwks_url"]) == (f"{idp.url}/own", f"{idp.url}/keys")
    world = World(api, admin, idp, provider)
    await world.browser().session()
    await world.close()


WHOLE = '{"issuer": "URL", "authorization_endpoint": "URL/a", "token_endpoint": "URL/t", "jwks_uri": "URL/k"}'
DESCRIPTIONS: dict[str, tuple[str, str]] = {
    "nothing there": ("", "VALIDATION_ERROR"),
    "a page": ("<html></html>", "VALIDATION_ERROR"),
    "a list": ("[]", "VALIDATION_ERROR"),
    "another issuer": (WHOLE.replace("URL", "https://evil.example", 1), "VALIDATION_ERROR"),
    "the issuer with a slash": (WHOLE.replace("URL", "URL/", 1), "VALIDATION_ERROR"),
    "good but too long": (WHOLE + " " * 2_000_000, "VALIDATION_ERROR"),
    "no keys": ('{"issuer": "URL", "authorization_endpoint": "URL/a", "token_endpoint": "URL/t"}', "VALIDATION_ERROR"),
    "numbers": ('{"issuer": "URL", "authorization_endpoint": "URL/a", "token_endpoint": 5, "jwks_uri": "URL/k"}', "VALIDATION_ERROR"),
    "inside": ('{"issuer": "URL", "authorization_endpoint": "URL/a", "token_endpoint": "http://10.0.0.1/t", "jwks_uri": "URL/k"}',
               "URL_NOT_ALLOWED"),
}  # fmt: skip


@pytest.mark.parametrize("case", DESCRIPTIONS)
async def test_a_description_that_is_not_right_makes_no_provider(api: Api, idp: OpenIDProvider, case: str) -> None:
    text, code = DESCRIPTIONS[case]
    idp.answers["/.well-known/openid-configuration"] = answering(text.replace("URL", idp.url))
    admin = await api.person()
    body = described(idp)
    for name in ("auth_url", "token_url", "jwks_url"):
        del body[name]
    assert error_of(await admin.post(PROVIDERS, json=body)) == (code, 422)
    assert await count(api, "select count(*) from identity_providers where tenant_id = $1", admin.tenant) == 0


async def test_the_issuer_stays_once_somebody_has_logged_in(world: World) -> None:
    """What this issuer says of people must not be taken for the word of another."""
    await world.change(issuer=f"{world.idp.url}/realm")
    await world.change(issuer=world.idp.url)
    await world.browser().session()
    answer = await world.admin.patch(f"{PROVIDERS}/{world.id}", json={"issuer": f"{world.idp.url}/realm"})
    assert error_of(answer) == ("CONFLICT", 409)
    await world.change(issuer=world.idp.url, name="still the same")


async def test_who_decides_who_vouches_must_be_an_admin_altogether(world: World) -> None:
    """Through a provider of one's own one could log in as anybody."""
    admin = world.admin
    actions = ["identity_providers.read", "identity_providers.manage"]
    await admin.post("/v1/admin/authz/roles", json={"id": "sso-staff", "name": "SSO", "actions": actions})
    helper = await world.api.person("reader", admin.tenant)
    await admin.patch(f"/v1/admin/identity/users/{helper.user_id}/role", json={"custom_role": "sso-staff"})
    await rows(world.api, "update api_keys set custom_role_id = 'sso-staff' where id = $1", helper.key_id)
    await soon(lambda: _status(helper, PROVIDERS), 200)
    path = f"{PROVIDERS}/{world.id}"
    for answer in (
        await helper.post(PROVIDERS, json=described(world.idp)),
        await helper.patch(path, json={"token_url": f"{world.idp.url}/mine"}),
        await helper.post(f"{path}/rotate-secret-ref", json={"client_secret_ref": "file:mine"}),
        await helper.post(f"{path}/enable"),
    ):
        assert error_of(answer) == ("AUTH_FORBIDDEN", 403)
    assert (await helper.post(f"{path}/disable")).status_code == 200


async def _status(person: Person, path: str) -> int:
    return (await person.get(path)).status_code


async def test_disabling_a_provider_ends_its_sessions_everywhere_within_a_second(world: World, servers: Servers) -> None:
    session = await world.browser().session()
    other = await made(world.admin, described(world.idp, default_role="editor"))
    kept = await world.browser(other["id"]).session()
    await hearing(world.api.app)
    async with serving(servers.with_env()) as (app, elsewhere), http(elsewhere, session["session_token"]) as client:
        await hearing(app)
        assert ((await client.get("/v1/auth/me")).status_code, (await world.me(session["session_token"])).status_code) == (200, 200)
        assert (await world.admin.post(f"{PROVIDERS}/{world.id}/disable")).status_code == 200

        async def refused() -> Any:
            answer = await client.get("/v1/auth/me")
            return answer.status_code if answer.status_code == 200 else error_of(answer)

        assert error_of(await world.me(session["session_token"])) == ("AUTH_REVOKED_KEY", 401), "here at once"
        await soon(refused, ("AUTH_REVOKED_KEY", 401))
        await world.admin.post(f"{PROVIDERS}/{world.id}/enable")
        assert await refused() == ("AUTH_REVOKED_KEY", 401), "for good"
    assert (await world.me(kept["session_token"])).status_code == 200
    (event,) = await audited(world.api, world.admin.tenant, "identity.provider.disabled")
    assert '"sessions_ended": 1' in event["metadata"]


async def test_a_plan_without_single_sign_on_has_none(world: World) -> None:
    browser = world.browser()
    code, state = world.idp.code_for(await browser.begin())
    await rows(world.api, "insert into tenant_plans (tenant_id, plan_id) values ($1, 'free')", world.admin.tenant)
    refused = ("FEATURE_NOT_ENABLED", 403)
    for answer in (await browser.client.get(f"{browser.path}/start"), await browser.back(code, state)):
        assert error_of(answer) == refused
        assert answer.json()["error"]["details"] == {"feature_key": "feature.identity.sso"}
    poor = await world.api.person("admin", world.admin.tenant)
    for answer in (
        await poor.get(PROVIDERS), await poor.post(PROVIDERS, json=described(world.idp)), await poor.post(f"{PROVIDERS}/{world.id}/enable"),
    ):  # fmt: skip
        assert error_of(answer) == refused


async def test_a_plan_that_lost_single_sign_on_can_still_end_what_came_by_it(world: World) -> None:
    session = await world.browser().session()
    await rows(world.api, "insert into tenant_plans (tenant_id, plan_id) values ($1, 'free')", world.admin.tenant)
    poor = await world.api.person("admin", world.admin.tenant)
    assert (await poor.post(f"{PROVIDERS}/{world.id}/disable")).status_code == 200
    assert error_of(await world.me(session["session_token"])) == ("AUTH_REVOKED_KEY", 401)


async def test_a_tenant_has_a_hundred_providers_at_most(world: World) -> None:
    await rows(
        world.api,
        "insert into identity_providers (tenant_id, id, type, name, issuer, client_id, client_secret_ref, auth_url, token_url, jwks_url, "
        "default_role) select tenant_id, id || n, type, name, issuer, client_id, client_secret_ref, auth_url, token_url, jwks_url, "
        "default_role from identity_providers, generate_series(1, 99) n where id = $1",
        world.id,
    )
    assert error_of(await world.admin.post(PROVIDERS, json=described(world.idp))) == ("CONFLICT", 409)
    assert len((await world.admin.get(PROVIDERS)).json()["data"]["items"]) == 100


async def test_a_repeated_request_makes_one_provider(world: World) -> None:
    headers = {"Idempotency-Key": "once"}
    answers = [await world.admin.post(PROVIDERS, json=described(world.idp), headers=headers) for _ in range(2)]
    assert answers[0].json()["data"]["id"] == answers[1].json()["data"]["id"]


@pytest.fixture(scope="module")
async def discovering(servers: Servers) -> AsyncIterator[Api]:
    async with serving(servers.with_env(SSO_PUBLIC_DISCOVERY_ENABLED="true")) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


async def test_providers_are_listed_to_strangers_where_the_operator_says_so(world: World, discovering: Api) -> None:
    path = f"{SSO}/providers"
    assert error_of(await world.api.anonymous().get(path, params={"tenant_id": world.admin.tenant})) == ("IDENTITY_FEATURE_DISABLED", 403)
    stranger = discovering.anonymous()
    await world.change(scopes_json=["openid"])
    await world.admin.post(PROVIDERS, json=described(world.idp, name="switched off"))
    listed = (await stranger.get(path, params={"tenant_id": world.admin.tenant})).json()["data"]
    assert listed == {
        "items": [
            {
                "id": world.id, "name": "IdP", "type": "oidc", "issuer": world.idp.url, "auth_url": f"{world.idp.url}/authorize",
                "scopes": ["openid"], "jit_enabled": True,
            }
        ]
    }  # fmt: skip
    for tenant in ("no-such-tenant", "T1", "../t1", "'", ""):
        assert (await stranger.get(path, params={"tenant_id": tenant})).json()["data"] == {"items": []}
    assert error_of(await stranger.get(path)) == ("VALIDATION_ERROR", 422)
    await rows(world.api, "insert into tenant_plans (tenant_id, plan_id) values ($1, 'free')", world.admin.tenant)
    assert (await stranger.get(path, params={"tenant_id": world.admin.tenant})).json()["data"] == {"items": []}


@pytest.mark.slow
async def test_single_sign_on_can_be_switched_off_altogether(world: World, servers: Servers) -> None:
    off = ("IDENTITY_FEATURE_DISABLED", 403)
    session, local = await world.browser().session(), await account(world.api, admin=world.admin)
    async with (
        serving(servers.with_env(SSO_ENABLED="false", SSO_PUBLIC_DISCOVERY_ENABLED="true")) as (_, url),
        world.admin.at(url) as admin,
    ):
        browser = world.browser(base_url=url)
        for answer in (
            await browser.client.get(f"{browser.path}/start"),
            await browser.back("code", "state"),
            await browser.client.get(f"{SSO}/providers", params={"tenant_id": admin.tenant}),
            await admin.get(PROVIDERS),
            await admin.post(PROVIDERS, json=described(world.idp)),
            await admin.patch(f"{PROVIDERS}/{world.id}", json={"name": "x"}),
            await admin.post(f"{PROVIDERS}/{world.id}/enable"),
        ):
            assert error_of(answer) == off
        headers = {"Authorization": f"Bearer {session['session_token']}"}
        assert error_of(await browser.client.get("/v1/auth/me", headers=headers)) == ("AUTH_REVOKED_KEY", 401)
        assert (await browser.client.get("/v1/auth/me", headers=local.bearer)).status_code == 200, "passwords go on"
    assert (await world.me(session["session_token"])).status_code == 200, "where it is on, nothing has ended"


@pytest.mark.slow
async def test_outside_development_everything_is_https(world: World, servers: Servers) -> None:
    env = {"ENVIRONMENT": "production", "SSO_ALLOWED_REDIRECT_HOSTS": "app.example.com"}
    async with serving(servers.with_env(**env)) as (_, url), world.admin.at(url) as admin:
        keep_secret(world.api, admin.tenant)
        safe = f"https://127.0.0.1:{free_port()}"
        body = described(world.idp) | {"issuer": safe, "auth_url": f"{safe}/a", "token_url": f"{safe}/t", "jwks_url": f"{safe}/k"}
        for field in ("issuer", "auth_url", "token_url", "jwks_url", "userinfo_url"):
            answer = await admin.post(PROVIDERS, json=body | {field: f"{world.idp.url}/x"})
            assert error_of(answer) == ("URL_NOT_ALLOWED", 422), field
        browser = world.browser(base_url=url)
        browser.client.headers["Host"] = "app.example.com"
        assert error_of(await browser.client.get(f"{browser.path}/start")) == ("URL_NOT_ALLOWED", 422), "a row from development"
        browser = world.browser((await made(admin, body))["id"], url)
        assert error_of(await browser.client.get(f"{browser.path}/start")) == ("BAD_REQUEST", 400), "loopback is no named host here"
        browser.client.headers["Host"] = "app.example.com"
        for place in ("http://app.example.com/", "http://localhost/"):
            assert error_of(await browser.client.get(f"{browser.path}/start", params={"return_to": place})) == ("BAD_REQUEST", 400)
        answer = await browser.client.get(f"{browser.path}/start")
        asked = query(answer.json()["data"]["authorize_url"])
        assert asked["redirect_uri"] == f"https://app.example.com{browser.path}/callback"
        cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
        assert cookie.startswith("__Host-nrag_sso=")
        assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=600"} == set(attributes)
        assert error_of(await browser.back("code", asked["state"])) == STATE, "over http the cookie stays at home"
        asked = query((await browser.client.get(f"{browser.path}/start", headers={"Cookie": cookie})).json()["data"]["authorize_url"])
        back = await browser.client.get(
            f"{browser.path}/callback", params={"code": "x", "state": asked["state"]}, headers={"Cookie": cookie}
        )
        assert error_of(back) == EXCHANGE, "the browser is known again"
