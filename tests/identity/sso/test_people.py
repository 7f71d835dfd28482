"""Which of our people a login is: known, linked, or new; and which role the provider's word gives them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nexusrag.kernel.ids import new_id
from tests.identity.sso.world import JIT_OFF, World, described, hearing, keep_secret, made
from tests.support.api import Api, error_of
from tests.support.behind import Held, audited, count, rows
from tests.support.installation import Servers, http, serving
from tests.support.openid_provider import OpenIDProvider, openid_provider
from tests.support.soon import soon

GROUPS = {"groups": {"Admins": "admin", "Editors": "editor", "Readers": "reader"}}
ADA = {"email": "ada@example.com", "email_verified": True}


async def provisioned(world: World, **fields: Any) -> str:
    """A user as a provisioning client makes one."""
    user_id = new_id("usr")
    given = {"user_name": "ada@example.com", "email": "ada@example.com", "external_id": None, "status": "active", "service": False} | fields
    await rows(
        world.api,
        "insert into users (tenant_id, id, external_subject, role, scim, user_name, email, external_id, status, service, deleted_at) "
        "values ($1, $2, $2, 'editor', '{}', $3, $4, $5, $6, $7, case when $8 then now() end)",
        world.admin.tenant, user_id, given["user_name"], given["email"], given["external_id"], given["status"], given["service"],
        given.get("deleted", False),
    )  # fmt: skip
    return user_id


async def people(world: World) -> int:
    return await count(world.api, "select count(*) from users where tenant_id = $1 and not service", world.admin.tenant)


async def user(world: World, user_id: str) -> dict[str, Any]:
    (row,) = await rows(world.api, "select * from users where tenant_id = $1 and id = $2", world.admin.tenant, user_id)
    return row


# Newcomers


async def test_a_newcomer_gets_an_account(world: World) -> None:
    world.idp.claims.update(ADA, name="Ada Lovelace")
    session = await world.browser().session("ada")
    row = await user(world, session["user_id"])
    assert (row["role"], row["status"], row["service"], row["password_hash"]) == ("reader", "active", False, None)
    assert (row["email"], row["email_verified"], row["display_name"]) == ("ada@example.com", True, "Ada Lovelace")
    assert row["last_login_at"] is not None
    (event,) = await audited(world.api, world.admin.tenant, "identity.jit.user_created")
    assert (event["actor_type"], event["actor_id"]) == ("identity_provider", world.id)
    assert (await world.browser().session("ada"))["user_id"] == session["user_id"]
    assert await people(world) == 1


async def test_many_logins_of_a_newcomer_at_once_make_one_user(world: World) -> None:
    sessions = await asyncio.gather(*(world.browser().session("ada") for _ in range(8)))
    assert len({session["user_id"] for session in sessions}) == 1
    assert await people(world) == 1
    assert len(await audited(world.api, world.admin.tenant, "identity.jit.user_created")) == 1


async def test_subjects_are_compared_letter_for_letter(world: World) -> None:
    seen = [(await world.browser().session(subject))["user_id"] for subject in ("ada", "Ada", "ada ", "аda")]
    assert len(set(seen)) == 4


async def test_the_same_subject_of_another_provider_is_another_person(world: World) -> None:
    first = await world.browser().session("ada")
    async with openid_provider() as elsewhere:
        other = await made(world.admin, described(elsewhere))
        browser = world.browser(other["id"])
        browser.idp = elsewhere
        second = await browser.session("ada")
    assert first["user_id"] != second["user_id"]


async def test_a_stranger_is_refused_where_newcomers_get_no_account(world: World) -> None:
    await world.change(jit_enabled=False)
    assert error_of(await world.browser().login()) == JIT_OFF
    await world.change(jit_enabled=True)
    await rows(
        world.api,
        "insert into feature_overrides (tenant_id, feature_key, enabled) values ($1, 'feature.identity.jit', false)",
        world.admin.tenant,
    )
    assert error_of(await world.browser().login()) == JIT_OFF
    assert await people(world) == 0


async def test_an_address_is_kept_only_when_it_is_verified(world: World) -> None:
    """Policies may ask for the address of a caller."""
    for number, claims in enumerate(
        ({"email_verified": False}, {"email_verified": "true"}, {"email_verified": 1}, {}, {"email_verified": True, "email": "a@b\x00"},
         {"email_verified": True, "email": ["a@b.c"]}, {"email_verified": True, "email": "no address"}, {"xms_edov": True})
    ):  # fmt: skip
        world.idp.claims = {"email": "boss@example.com", **claims}
        session = await world.browser().session(f"sub-{number}")
        row = await user(world, session["user_id"])
        assert (row["email"], row["email_verified"]) == (None, False), claims


# People who were provisioned


async def test_somebody_provisioned_is_known_by_their_external_id(world: World) -> None:
    await world.change(jit_enabled=False)
    user_id = await provisioned(world, external_id="ada", user_name="someone", email="someone@example.com")
    session = await world.browser().session("ada")
    assert (session["user_id"], session["role"]) == (user_id, "editor")
    assert (await world.browser().session("ada"))["user_id"] == user_id


async def test_provisioning_and_logins_mean_the_same_person(world: World) -> None:
    await world.change(jit_enabled=False)
    token = (await world.admin.post("/v1/admin/identity/scim/token/create")).json()["data"]["token"]
    ada = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ada", "externalId": "sub-of-ada", "active": True}
    async with http(world.api.base_url, token) as scim:
        assert error_of(await world.browser().login("sub-of-ada")) == JIT_OFF
        made_by_scim = (await scim.post("/v1/scim/v2/Users", json=ada)).json()["id"]
        session = await world.browser().session("sub-of-ada")
        assert session["user_id"] == made_by_scim
        assert (await world.me(session["session_token"])).status_code == 200
        await scim.patch(
            f"/v1/scim/v2/Users/{made_by_scim}",
            json={
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                "Operations": [{"op": "Replace", "path": "active", "value": "False"}],
            },
        )
        assert error_of(await world.browser().login("sub-of-ada")) == JIT_OFF
        assert (await scim.delete(f"/v1/scim/v2/Users/{made_by_scim}")).status_code == 204
        again = (await scim.post("/v1/scim/v2/Users", json=ada)).json()["id"]
        assert (await world.browser().session("sub-of-ada"))["user_id"] == again != made_by_scim

        async def status() -> int:
            return (await world.me(session["session_token"])).status_code

        await soon(status, 401)


@pytest.mark.parametrize(
    "fields", [{"user_name": "ADA@example.com", "email": None}, {"user_name": "al", "email": "Ada@Example.com"}], ids=["name", "address"]
)
async def test_somebody_provisioned_is_known_by_a_verified_address(world: World, fields: dict[str, Any]) -> None:
    await world.change(jit_enabled=False)
    user_id = await provisioned(world, **fields)
    world.idp.claims.update(ADA)
    assert (await world.browser().session("x"))["user_id"] == user_id


@pytest.mark.parametrize(
    "claims",
    [{"email_verified": False}, {"email_verified": "true"}, {"email_verified": 1}, {}, {"email_verified": True, "email": "ada@example.co"},
     {"email_verified": True, "email": "adа@example.com"}, {"email_verified": True, "email": ["ada@example.com"]}, {"xms_edov": True}],
)  # fmt: skip
async def test_nobody_is_linked_by_an_address_that_is_not_verified_or_not_theirs(world: World, claims: dict[str, Any]) -> None:
    await world.change(jit_enabled=False)
    await provisioned(world)
    world.idp.claims = {"email": "ada@example.com", **claims}
    assert error_of(await world.browser().login()) == JIT_OFF
    assert await count(world.api, "select count(*) from user_identities where tenant_id = $1", world.admin.tenant) == 0


async def test_who_has_an_identity_is_not_given_another(world: World) -> None:
    """The same address at another provider, or an address that went to somebody new, opens nobody's account."""
    user_id = await provisioned(world, external_id="ada")
    assert (await world.browser().session("ada"))["user_id"] == user_id
    await world.change(jit_enabled=False)
    world.idp.claims.update(ADA)
    assert error_of(await world.browser().login("somebody-new")) == JIT_OFF
    async with openid_provider() as elsewhere:
        other = await made(world.admin, described(elsewhere, jit_enabled=False))
        elsewhere.claims.update(ADA)
        browser = world.browser(other["id"])
        browser.idp = elsewhere
        for subject in ("ada", "x"):
            assert error_of(await browser.login(subject)) == JIT_OFF


@pytest.mark.parametrize("fields", [{"user_name": None}, {"service": True}, {"deleted": True}], ids=["by hand", "for a key", "removed"])
async def test_only_people_who_were_provisioned_are_linked(world: World, fields: dict[str, Any]) -> None:
    """An account with a password could have been made under somebody else's address."""
    await world.change(jit_enabled=False)
    await provisioned(world, external_id="ada", **fields)
    world.idp.claims.update(ADA)
    assert error_of(await world.browser().login("ada")) == JIT_OFF


async def test_two_who_could_be_meant_are_nobody(world: World) -> None:
    await world.change(jit_enabled=False)
    for name in ("one", "two"):
        await provisioned(world, external_id="ada", user_name=name, email=None)
    assert error_of(await world.browser().login("ada")) == JIT_OFF


async def test_an_internal_id_is_no_external_one(world: World) -> None:
    await world.change(jit_enabled=False)
    user_id = await provisioned(world, external_id="ada")
    for subject in (user_id, "1", world.admin.user_id):
        assert error_of(await world.browser().login(subject)) == JIT_OFF


async def test_two_logins_at_once_do_not_link_one_user_twice(world: World) -> None:
    await provisioned(world)
    world.idp.claims.update(ADA)
    sessions = await asyncio.gather(*(world.browser().session(f"sub-{number}") for number in range(5)))
    assert len({session["user_id"] for session in sessions}) == 5
    assert await people(world) == 5


ENTRA = "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0"


async def test_entra_sends_an_object_id_and_says_in_its_own_way_whether_an_address_is_verified(world: World) -> None:
    """Its subjects differ from application to application, so provisioning cannot know them."""
    await rows(world.api, "update identity_providers set issuer = $2, jit_enabled = false where id = $1", world.id, ENTRA)
    by_object = await provisioned(world, external_id="object-1", user_name="one", email=None)
    by_address = await provisioned(world)
    honest = {"iss": ENTRA, "tid": "11111111-2222-3333-4444-555555555555", "oid": "object-1"}
    for wrong in ({"tid": "another"}, {"oid": "object-2"}, {"oid": ["object-1"]}):
        world.idp.claims = {**honest, **wrong}
        assert error_of(await world.browser().login("pairwise-1")) == JIT_OFF
    world.idp.claims = honest
    assert (await world.browser().session("pairwise-1"))["user_id"] == by_object
    for wrong in ({"email_verified": True}, {"xms_edov": False}, {"xms_edov": "0"}, {}):
        world.idp.claims = {**honest, "oid": "object-2", "email": "ada@example.com", **wrong}
        assert error_of(await world.browser().login("pairwise-2")) == JIT_OFF
    world.idp.claims = {**honest, "oid": "object-2", "email": "ada@example.com", "xms_edov": True}
    assert (await world.browser().session("pairwise-2"))["user_id"] == by_address


async def test_an_object_id_of_anybody_but_entra_means_nothing(world: World) -> None:
    await world.change(jit_enabled=False)
    await provisioned(world, external_id="object-1")
    world.idp.claims.update(oid="object-1", tid="11111111-2222-3333-4444-555555555555")
    assert error_of(await world.browser().login()) == JIT_OFF


# People who may not come in


async def test_who_is_disabled_does_not_log_in(world: World) -> None:
    session = await world.browser().session()
    await world.admin.post(f"/v1/admin/identity/users/{session['user_id']}/disable")
    assert error_of(await world.browser().login()) == JIT_OFF
    assert (await world.me(session["session_token"])).status_code == 401
    await world.admin.post(f"/v1/admin/identity/users/{session['user_id']}/enable")
    assert (await world.me(session["session_token"])).status_code == 401, "an old session stays ended"
    await world.browser().session()


async def test_who_was_disabled_before_their_first_login_gets_no_new_account(world: World) -> None:
    await provisioned(world, external_id="ada", status="disabled")
    assert error_of(await world.browser().login("ada")) == JIT_OFF
    assert await people(world) == 1
    assert await count(world.api, "select count(*) from user_identities where tenant_id = $1", world.admin.tenant) == 0


async def test_who_was_removed_comes_back_by_being_provisioned_again(world: World) -> None:
    session = await world.browser().session("ada")
    await rows(
        world.api, "update users set deleted_at = now(), status = 'disabled' where tenant_id = $1 and id = $2",
        world.admin.tenant, session["user_id"],
    )  # fmt: skip
    assert error_of(await world.browser().login("ada")) == JIT_OFF
    again = await provisioned(world, external_id="ada")
    assert (await world.browser().session("ada"))["user_id"] == again
    assert (await world.browser().session("ada"))["user_id"] == again


async def test_nobody_of_a_suspended_tenant_logs_in(world: World) -> None:
    session = await world.browser().session()
    code, state = world.idp.code_for(await (browser := world.browser()).begin())
    await rows(
        world.api,
        "with suspended as (update tenants set status = 'suspended' where id = $1 returning id) "
        "select pg_notify('nexusrag_changes', 'tenant ' || id) from suspended",
        world.admin.tenant,
    )
    assert error_of(await browser.back(code, state)) == ("SSO_PROVIDER_NOT_FOUND", 404)
    assert error_of(await browser.client.get(f"{browser.path}/start")) == ("SSO_PROVIDER_NOT_FOUND", 404)

    async def status() -> int:
        return (await world.me(session["session_token"])).status_code

    await soon(status, 401)


# Roles


@pytest.mark.parametrize(
    ("mapping", "claims", "role"),
    [
        (GROUPS, {"groups": ["Readers", "Admins", "Editors"]}, "admin"),
        (GROUPS, {"groups": ["Editors"]}, "editor"),
        (GROUPS, {"groups": "Admins"}, "admin"),
        (GROUPS, {"groups": "Admins,Editors"}, "reader"),
        (GROUPS, {"groups": ["Admins ", "admins", "Аdmins", "/Admins", "Admins\u200b"]}, "reader"),
        (GROUPS, {"groups": [["Admins"], {"name": "Admins"}, 5, None, True]}, "reader"),
        (GROUPS, {"groups": {"Admins": True}}, "reader"),
        (GROUPS, {"groups": [f"group-{number}" for number in range(10_000)] + ["Editors"]}, "editor"),
        (GROUPS, {"groups": []}, "reader"),
        (GROUPS, {}, "reader"),
        (GROUPS, {"roles": ["Admins"]}, "reader"),
        ({"claim": "roles", "mapping": {"staff": "editor"}}, {"roles": "staff"}, "editor"),
        ({"claim": "roles", "mapping": {"staff": "editor", "chief": "admin"}}, {"roles": ["chief", "staff"]}, "admin"),
        ({"claim": "https://x.example/role", "mapping": {"staff": "editor"}}, {"https://x.example/role": "staff"}, "editor"),
        ({"claim": "roles", "mapping": {"staff": "editor"}}, {"groups": ["staff"]}, "reader"),
        (None, {"groups": ["Admins"]}, "reader"),
    ],
)
async def test_a_role_comes_from_the_mapping_letter_for_letter(world: World, mapping: Any, claims: dict[str, Any], role: str) -> None:
    await world.change(role_mapping_json=mapping)
    world.idp.claims.update(claims)
    assert (await world.browser().session())["role"] == role


async def test_a_newcomer_without_a_mapped_role_gets_the_default(world: World) -> None:
    await world.change(default_role="editor", role_mapping_json=GROUPS)
    assert (await world.browser().session())["role"] == "editor"


async def test_a_role_that_is_taken_away_at_the_provider_is_lowered_at_the_next_login(world: World) -> None:
    await world.change(role_mapping_json=GROUPS)
    world.idp.claims["groups"] = ["Admins"]
    first = await world.browser().session()
    await hearing(world.api.app)
    assert (await world.me(first["session_token"])).json()["data"]["role"] == "admin"
    world.idp.claims["groups"] = []
    second = await world.browser().session()
    assert (first["role"], second["role"]) == ("admin", "reader")

    async def role() -> str:
        return str((await world.me(first["session_token"])).json()["data"]["role"])

    await soon(role, "reader")
    (event,) = await audited(world.api, world.admin.tenant, "identity.role.changed")
    assert event["actor_id"] == world.id
    world.idp.claims["groups"] = ["Editors"]
    assert (await world.browser().session())["role"] == "editor"


async def test_without_a_mapping_an_admin_decides_about_roles(world: World) -> None:
    session = await world.browser().session()
    await world.admin.patch(f"/v1/admin/identity/users/{session['user_id']}/role", json={"role": "editor"})
    assert (await world.browser().session())["role"] == "editor"


async def test_a_mapping_does_not_touch_who_was_provisioned(world: World) -> None:
    await world.change(role_mapping_json=GROUPS)
    await provisioned(world, external_id="ada")
    world.idp.claims["groups"] = ["Admins"]
    for _ in range(2):
        assert (await world.browser().session("ada"))["role"] == "editor"


async def test_the_last_admin_stays_one(world: World) -> None:
    await world.change(role_mapping_json=GROUPS)
    world.idp.claims["groups"] = ["Admins"]
    session = await world.browser().session()
    await rows(world.api, "update users set role = 'reader' where tenant_id = $1 and id = $2", world.admin.tenant, world.admin.user_id)
    world.idp.claims["groups"] = []
    again = await world.browser().session()
    assert (again["user_id"], again["role"]) == (session["user_id"], "admin")
    assert await audited(world.api, world.admin.tenant, "identity.role.changed") == []


async def test_a_person_is_called_what_the_provider_calls_them(world: World) -> None:
    world.idp.claims.update(ADA, name="Ada Byron")
    session = await world.browser().session()
    await hearing(world.api.app)
    assert (await world.me(session["session_token"])).json()["data"]["email"] == "ada@example.com"
    world.idp.claims.update(email="lovelace@example.com", name="Ada Lovelace")
    await world.browser().session()

    async def shown() -> tuple[str, str]:
        me = (await world.me(session["session_token"])).json()["data"]
        return me["email"], me["display_name"]

    await soon(shown, ("lovelace@example.com", "Ada Lovelace"))
    world.idp.claims.update(email_verified=False, email="boss@example.com")
    await world.browser().session()
    assert (await user(world, session["user_id"]))["email"] == "lovelace@example.com"


async def test_a_login_that_waits_to_change_a_role_holds_no_row_of_the_person(world: World) -> None:
    """Whoever else changes people waits the other way round: with the lock of the tenant's people, for the row."""
    await world.change(role_mapping_json=GROUPS)
    user_id = (await world.browser().session())["user_id"]
    world.idp.claims.update(name="Another name", groups=["Editors"])
    async with Held(world.api, world.admin.tenant, "select pg_advisory_xact_lock(hashtextextended('people ' || '{}', 0))") as held:
        login = asyncio.create_task(world.browser().session())
        await held.waiting()
        await rows(world.api, "select 1 from users where id = $1 for update nowait", user_id)
    assert (await login)["role"] == "editor"
    assert (await user(world, user_id))["display_name"] == "Another name"


async def test_userinfo_says_what_the_token_leaves_out(world: World) -> None:
    """Okta's tokens are thin when they come with an access token."""
    await world.change(userinfo_url=f"{world.idp.url}/userinfo", role_mapping_json=GROUPS)
    world.idp.userinfo = {**ADA, "name": "Ada", "groups": ["Editors"], "iss": "https://evil.example", "aud": "other", "oid": "x"}
    session = await world.browser().session()
    row = await user(world, session["user_id"])
    assert (session["role"], row["email"], row["display_name"]) == ("editor", "ada@example.com", "Ada")
    world.idp.claims.update(email="unverified@example.com", groups=["Readers"])
    session = await world.browser().session("sub-2")
    row = await user(world, session["user_id"])
    assert (session["role"], row["email"]) == ("reader", None), "an address is not verified by what is said of another"


@pytest.fixture
async def controlled(servers: Servers, idp: OpenIDProvider) -> AsyncIterator[World]:
    """Raising a role needs a second admin."""
    async with serving(servers.with_env(IDENTITY_DUAL_CONTROL_REQUIRED="true")) as (app, url):
        api = Api(servers, app, url)
        admin = await api.person()
        world = World(api, admin, idp, await made(admin, described(idp, keep_secret(api, admin.tenant))))
        yield world
        await world.close()
        await api.close()


async def test_under_dual_control_a_provider_lowers_and_does_not_raise(controlled: World) -> None:
    await controlled.change(default_role="admin")
    assert (await controlled.browser().session("sub-2"))["role"] == "reader", "one admin alone has set it up"
    await controlled.change(default_role="reader", role_mapping_json=GROUPS)
    controlled.idp.claims["groups"] = ["Editors"]
    session = await controlled.browser().session()
    assert session["role"] == "reader"
    await rows(controlled.api, "update users set role = 'editor' where id = $1", session["user_id"])
    controlled.idp.claims["groups"] = ["Admins"]
    assert (await controlled.browser().session())["role"] == "editor"
    controlled.idp.claims["groups"] = []
    assert (await controlled.browser().session())["role"] == "reader"


async def test_a_person_logs_in_to_their_own_tenant_alone(world: World, api: Api) -> None:
    """Two tenants, one identity provider, the same people in it."""
    other = await api.person()
    keep_secret(api, other.tenant)
    theirs = await made(other, described(world.idp))
    mine = await world.browser().session("ada")
    yours = await world.browser(theirs["id"]).session("ada")
    assert (mine["tenant_id"], yours["tenant_id"]) == (world.admin.tenant, other.tenant)
    assert mine["user_id"] != yours["user_id"]
