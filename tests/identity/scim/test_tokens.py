"""Provisioning tokens: made, shown once, revoked within a second, good for nothing else; and how a refusal looks."""

from typing import Any

import pytest

from nexusrag.kernel.tokens import is_well_formed, mint
from tests.identity.scim.client import PREFIX, TOKENS, provisioning, refused
from tests.support.api import Api, error_of
from tests.support.behind import audited, rows
from tests.support.installation import Servers, serving
from tests.support.soon import soon

UNKNOWN = (401, None)


async def status(client: Any) -> int:
    return int((await client.get("/Users")).status_code)


async def test_a_token_is_shown_once_and_kept_as_a_hash(api: Api) -> None:
    admin = await api.person()
    answer = await admin.post(f"{TOKENS}/token/create")
    data = answer.json()["data"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert is_well_formed(data["token"])
    assert data["token"].startswith("nrag_scim_")
    assert data["token"].startswith(data["token_prefix"])
    (listed,) = (await admin.get(f"{TOKENS}/tokens")).json()["data"]["items"]
    assert (listed["token_id"], listed["created_by"], listed["revoked_at"]) == (data["token_id"], admin.user_id, None)
    assert data["token"] not in str(await rows(api, "select t::text from scim_tokens t where id = $1", data["token_id"]))
    assert data["token"] not in (await admin.get(f"{TOKENS}/tokens")).text
    (event,) = await audited(api, admin.tenant, "identity.scim.token.created")
    assert (event["resource_type"], event["resource_id"]) == ("scim_token", data["token_id"])
    assert data["token"] not in str(event)


async def test_a_token_lives_as_long_as_the_setting_says(servers: Servers) -> None:
    async with serving(servers.with_env(SCIM_TOKEN_TTL_DAYS="2")) as (app, url):
        api = Api(servers, app, url)
        client = await provisioning(api)
        (life,) = await rows(api, "select expires_at - created_at as life from scim_tokens where id = $1", client.token_id)
        assert life["life"].days == 2
        await api.close()


async def test_a_repeated_creation_tells_no_secret(api: Api) -> None:
    admin = await api.person()
    first, again = [await admin.post(f"{TOKENS}/token/create", headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert again.json()["data"] == {**first.json()["data"], "token": None}
    assert first.json()["data"]["token"] not in str(await rows(api, "select * from idempotency_keys where tenant_id = $1", admin.tenant))


async def test_a_revoked_token_is_refused_within_a_second_in_every_process(api: Api) -> None:
    client = await provisioning(api)
    async with serving(api.servers.with_env()) as (app, url):
        elsewhere = Api(api.servers, app, url)
        there = elsewhere.client(client.token, PREFIX)
        assert (await status(client), await status(there)) == (200, 200)
        for _ in range(2):
            answer = await client.admin.post(f"{TOKENS}/token/revoke", json={"token_id": client.token_id})
            assert answer.json()["data"]["revoked_at"] is not None
        assert await status(client) == 401
        await soon(lambda: status(there), 401)
        await elsewhere.close()
    assert len(await audited(api, client.tenant, "identity.scim.token.revoked")) == 1


async def test_who_presents_no_good_token_is_a_stranger(api: Api) -> None:
    client = await provisioning(api)
    strangers = [
        {},
        {"Authorization": client.token},
        {"Authorization": "Basic eDp5"},
        {"Authorization": f"Bearer {client.token}x"},
        {"Authorization": f"Bearer {mint('scim', 'scim_' + 'a' * 32).secret}"},
        {"Authorization": f"Bearer {client.admin.key}"},
        {"Authorization": "Bearer ' or 1=1 --"},
        {"Authorization": f"Bearer {'x' * 8000}"},
    ]
    for headers in strangers:
        for method, path in (("GET", "/Users"), ("POST", "/Users"), ("GET", "/ServiceProviderConfig"), ("POST", "/Bulk"), ("GET", "/Me")):
            answer = await api.anonymous().request(
                method, PREFIX + path, headers=headers, content=b"nonsense" if method == "POST" else None
            )
            assert refused(answer) == UNKNOWN, (headers, path)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    await rows(api, "update scim_tokens set expires_at = now() where id = $1", client.token_id)
    assert refused(await client.get("/Users")) == UNKNOWN


async def test_a_refused_token_is_on_record(api: Api) -> None:
    client = await provisioning(api)
    await rows(api, "update scim_tokens set revoked_at = now() where id = $1", client.token_id)

    async def recorded() -> bool:
        assert refused(await client.get("/Users")) == UNKNOWN
        return bool(await audited(api, client.tenant, "auth.access.failure"))

    await soon(recorded, True, within_s=3)  # refusals of strangers are sampled, by the second
    event = (await audited(api, client.tenant, "auth.access.failure"))[0]
    assert (event["actor_type"], event["actor_id"], event["error_code"]) == ("scim_token", client.token_id, "SCIM_UNAUTHORIZED")


async def test_a_token_opens_nothing_but_provisioning(api: Api) -> None:
    client = await provisioning(api)
    outside = api.client(client.token)
    for path in ("/v1/corpora", "/v1/admin/identity/users", f"{TOKENS}/tokens", "/v1/auth/me"):
        assert error_of(await outside.get(path)) == ("AUTH_UNAUTHORIZED", 401), path


async def test_only_an_admin_in_all_makes_tokens(api: Api) -> None:
    admin = await api.person()
    for role in ("reader", "editor"):
        person = await api.person(role, admin.tenant)
        for answer in (
            await person.post(f"{TOKENS}/token/create"),
            await person.post(f"{TOKENS}/token/revoke", json={"token_id": "x"}),
            await person.get(f"{TOKENS}/tokens"),
        ):
            assert error_of(answer) == ("AUTH_FORBIDDEN", 403)
    body = {"id": "it", "name": "IT", "actions": ["scim_tokens.manage"]}
    assert (await admin.post("/v1/admin/authz/roles", json=body)).status_code == 201
    keeper = await api.person("admin", admin.tenant)
    await admin.patch(f"/v1/admin/identity/users/{keeper.user_id}/role", json={"custom_role": "it"})
    await soon(lambda: _created(keeper), ("AUTH_FORBIDDEN", 403))
    assert (await keeper.get(f"{TOKENS}/tokens")).status_code == 200


async def _created(person: Any) -> tuple[str, int]:
    answer = await person.post(f"{TOKENS}/token/create")
    return ("", 201) if answer.status_code == 201 else error_of(answer)


async def test_the_token_of_another_tenant_is_not_found(api: Api) -> None:
    client, other = await provisioning(api), await api.person()
    for token_id in (client.token_id, "made-up"):
        assert error_of(await other.post(f"{TOKENS}/token/revoke", json={"token_id": token_id})) == ("NOT_FOUND", 404)
    assert await status(client) == 200


async def test_a_plan_without_provisioning_refuses_it_but_takes_tokens_away(api: Api) -> None:
    client = await provisioning(api)
    await rows(api, "insert into tenant_plans (tenant_id, plan_id) values ($1, 'pro')", client.tenant)
    await rows(api, "select pg_notify('nexusrag_changes', 'tenant ' || $1)", client.tenant)
    await soon(lambda: status(client), 403)
    assert refused(await client.get("/Users")) == (403, None)
    assert (await client.admin.post(f"{TOKENS}/token/revoke", json={"token_id": client.token_id})).status_code == 200
    assert error_of(await client.admin.post(f"{TOKENS}/token/create")) == ("FEATURE_NOT_ENABLED", 403)


async def test_where_it_is_switched_off_nothing_answers(servers: Servers, api: Api) -> None:
    client = await provisioning(api)
    async with serving(servers.with_env(SCIM_ENABLED="false")) as (app, url):
        off = Api(servers, app, url)
        assert refused(await off.client(client.token, PREFIX).get("/Schemas")) == (403, None)
        assert error_of(await off.client(client.admin.key).post(f"{TOKENS}/token/create")) == ("IDENTITY_FEATURE_DISABLED", 403)
        await off.close()


async def test_a_suspended_tenant_is_not_provisioned(api: Api) -> None:
    client = await provisioning(api)
    await rows(api, "update tenants set status = 'suspended' where id = $1", client.tenant)
    await rows(api, "select pg_notify('nexusrag_changes', 'tenant ' || $1)", client.tenant)
    await soon(lambda: status(client), 401)


@pytest.mark.parametrize("path", ["/Users", "/Groups", "/.search", "/Schemas", "/Bulk", "/Me"])
async def test_no_token_reaches_another_tenants_people_by_naming_it(api: Api, path: str) -> None:
    client, other = await provisioning(api), await provisioning(api)
    await other.user("theirs")
    answer = await client.get(path, params={"tenant_id": other.tenant})
    assert answer.status_code in (404, 405)
    assert "theirs" not in answer.text
