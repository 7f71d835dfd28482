"""Who may make an account, where it comes to stand, and with which password."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from nexusrag.kernel.ids import new_id
from tests.identity.accounts.people import PASSWORD, account, invitation, login, new_address, register
from tests.support.api import Api, error_of
from tests.support.behind import audited, rows
from tests.support.installation import Servers, serving

USELESS = ("AUTH_UNAUTHORIZED", 401)


async def test_an_invitation_leads_into_its_tenant_with_its_role(api: Api) -> None:
    admin, client, email = await api.person(), api.anonymous(), new_address()
    made = await invitation(admin, email, role="editor")
    answer = await register(client, email.upper(), made["token"], display_name="Ada")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    tokens = answer.json()["data"]
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 900)
    user = tokens["user"]
    assert (user["tenant_id"], user["role"], user["display_name"]) == (admin.tenant, "editor", "Ada")
    me = await client.get("/v1/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert me.json()["data"] == {**user, "credential": "session", "credential_id": tokens["session_id"]}
    (event,) = await audited(api, admin.tenant, "auth.account.registered")
    assert (event["outcome"], event["actor_type"], event["actor_id"]) == ("success", "user", user["id"])
    assert made["id"] in event["metadata"]


@pytest.mark.slow
async def test_fifty_at_once_make_one_account(api: Api) -> None:
    admin, client, email = await api.person(), api.anonymous(), new_address()
    token = (await invitation(admin, email))["token"]
    answers = await asyncio.gather(*(register(client, email, token) for _ in range(50)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 401: 49}
    assert len(await rows(api, "select 1 from users where tenant_id = $1 and email = $2", admin.tenant, email)) == 1
    assert len(await rows(api, "select 1 from auth_sessions where tenant_id = $1", admin.tenant)) == 1


async def test_an_invitation_that_cannot_be_used_says_no_more_than_that(api: Api) -> None:
    admin, client = await api.person(), api.anonymous()
    made = {name: await invitation(admin, f"{name}-{new_address()}") for name in ("used", "expired", "revoked", "other")}
    assert (await register(client, made["used"]["email"], made["used"]["token"])).status_code == 201
    await rows(api, "update invitations set expires_at = now() where id = $1", made["expired"]["id"])
    assert (await admin.post(f"/v1/admin/identity/invitations/{made['revoked']['id']}/revoke")).status_code == 200
    wrong = [(one["email"], one["token"]) for name, one in made.items() if name != "other"]
    email, token = made["other"]["email"], made["other"]["token"]
    similar = token[:-1] + ("y" if token.endswith("x") else "x")
    wrong += [(new_address(), token), (email, similar), (email, admin.key), (email, "nrag_inv_")]
    answers = [await register(client, email, token) for email, token in wrong]
    assert {error_of(answer) for answer in answers} == {USELESS}
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1
    assert (await register(client, email, token)).status_code == 201
    refused = [event for event in await audited(api, admin.tenant, "auth.account.registered") if event["outcome"] == "failure"]
    assert {event["actor_id"] for event in refused} == {one["id"] for one in made.values()}


@pytest.mark.parametrize(
    "change",
    [
        "update users set role = 'editor' where tenant_id = $1",
        "update users set status = 'disabled' where tenant_id = $1",
        "update users set deleted_at = now() where tenant_id = $1",
        "update tenants set status = 'suspended' where id = $1",
    ],
)
async def test_who_could_not_invite_any_more_has_not_invited(api: Api, change: str) -> None:
    admin, email = await api.person(), new_address()
    made = await invitation(admin, email, role="admin")
    await rows(api, change, admin.tenant)
    assert error_of(await register(api.anonymous(), email, made["token"])) == USELESS
    assert await rows(api, "select 1 from users where tenant_id = $1 and email is not null", admin.tenant) == []


async def test_an_address_stands_in_a_tenant_once(api: Api) -> None:
    admin, email = await api.person(), new_address()
    made = [await invitation(admin, email) for _ in range(2)]
    answers = await asyncio.gather(*(register(api.anonymous(), email, one["token"]) for one in made))
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    answer = await admin.post("/v1/admin/identity/invitations", json={"email": email.upper(), "role": "reader"})
    assert error_of(answer) == ("CONFLICT", 409)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("eleven char", "at least 12 characters"),
        ("", "at least 12 characters"),
        ("e\u0301" * 11, "at least 12 characters"),  # eleven letters, however they are composed
        ("x" * 1025, "at most 1024 bytes"),
        ("ä" * 513, "at most 1024 bytes"),
        (None, "must not be the e-mail address"),
    ],
)
async def test_a_password_that_is_easily_guessed_or_too_long_is_refused(api: Api, password: str | None, why: str) -> None:
    admin, email = await api.person(), new_address()
    token = (await invitation(admin, email))["token"]
    answer = await register(api.anonymous(), email, token, email.upper() if password is None else password)
    assert error_of(answer) == ("VALIDATION_ERROR", 422)
    (fault,) = answer.json()["error"]["details"]["errors"]
    assert (fault["field"], why in fault["message"]) == ("body.password", True)
    assert password is None or len(password) < 9 or password not in answer.text


async def test_a_password_counts_however_its_letters_are_composed(api: Api) -> None:
    somebody = await account(api, password="pâte brisée maison")
    assert (await login(somebody.client, somebody.email, "pa\u0302te brise\u0301e maison")).status_code == 200


@pytest.mark.parametrize(
    "email", ["", "ada", "@example.org", "ada@", "a b@example.org", "ada@exa mple.org", "a@b@c", "a\u200b@b", "x" * 251 + "@b.c"]
)
async def test_what_is_no_address_is_refused(api: Api, email: str) -> None:
    assert error_of(await register(api.anonymous(), email, None)) == ("VALIDATION_ERROR", 422)


async def test_without_an_invitation_nobody_registers(api: Api) -> None:
    assert error_of(await register(api.anonymous(), new_address(), None)) == ("AUTH_FORBIDDEN", 403)


@pytest.mark.slow
async def test_closed_means_closed_for_the_invited_too(servers: Servers) -> None:
    async with serving(servers.with_env(AUTH_REGISTRATION="closed")) as (app, url):
        api = Api(servers, app, url)
        email = new_address()
        token = (await invitation(await api.person(), email))["token"]
        assert error_of(await register(api.anonymous(), email, token)) == ("AUTH_FORBIDDEN", 403)
        await api.close()


@pytest.mark.slow
async def test_where_anybody_may_register_each_gets_a_tenant_of_their_own(servers: Servers) -> None:
    async with serving(servers.with_env(AUTH_REGISTRATION="open", DEFAULT_PLAN="free")) as (app, url):
        api = Api(servers, app, url)
        admin, client, email = await api.person(), api.anonymous(), new_address()
        answers = [await register(client, email, None, tenant_name="Ada & Sons"), await register(client, new_address(), None)]
        users: list[Any] = [answer.json()["data"]["user"] for answer in answers]
        assert [user["role"] for user in users] == ["admin", "admin"]
        assert len({user["tenant_id"] for user in users} | {admin.tenant}) == 3
        (tenant,) = await rows(api, "select name, is_home, status from tenants where id = $1", users[0]["tenant_id"])
        assert tenant == {"name": "Ada & Sons", "is_home": False, "status": "active"}
        for event in ("tenant.created", "auth.account.registered"):
            assert [row["actor_id"] for row in await audited(api, users[0]["tenant_id"], event)] == [users[0]["id"]], event
        # The default plan, which has no console for operations.
        headers = {"Authorization": f"Bearer {answers[0].json()['data']['access_token']}"}
        assert error_of(await client.get("/v1/ops/health", headers=headers)) == ("FEATURE_NOT_ENABLED", 403)
        # Whoever is invited joins all the same.
        invited = new_address()
        token = (await invitation(admin, invited))["token"]
        assert (await register(client, invited, token)).json()["data"]["user"]["tenant_id"] == admin.tenant
        assert error_of(await register(client, invited, token, tenant_name="Mine")) == ("VALIDATION_ERROR", 422)
        # Tenants are not made by the thousand.
        answers = await asyncio.gather(*(register(client, new_address(), None) for _ in range(30)))
        assert {error_of(answer) for answer in answers if answer.status_code != 201} == {("RATE_LIMITED", 429)}
        assert sum(answer.status_code == 201 for answer in answers) <= 18
        await api.close()


async def test_a_stranger_cannot_become_the_first_tenant(api: Api) -> None:
    """The first tenant operates the platform."""
    await api.person()
    connection = await api.servers.admin()
    try:
        transaction = connection.transaction()
        await transaction.start()
        assert await connection.fetchval("select tenant_open($1, 'x')", new_id("tenant"))
        await connection.execute("update tenants set is_home = false where is_home")
        assert not await connection.fetchval("select tenant_open($1, 'x')", new_id("tenant"))
        await transaction.rollback()
    finally:
        await connection.close()


async def test_what_is_stored_of_a_password_is_an_argon2id_hash(api: Api) -> None:
    somebody = await account(api)
    (user,) = await rows(api, "select * from users where tenant_id = $1 and id = $2", somebody.tenant, somebody.user_id)
    assert user["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in str(user)
