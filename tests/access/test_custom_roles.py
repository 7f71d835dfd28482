"""A tenant's own roles: made of actions that their maker has, and holding exactly those."""

from typing import Any

import pytest

from nexusrag.kernel.actions import ACTIONS_OF, Action, Role
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, grant, rows
from tests.support.soon import soon

ROLES = "/v1/admin/authz/roles"
FORBIDDEN = ("AUTH_FORBIDDEN", 403)


async def define(admin: Person, role_id: str, *actions: str) -> dict[str, Any]:
    answer = await admin.post(ROLES, json={"id": role_id, "name": role_id.title(), "actions": actions})
    assert answer.status_code == 201, answer.text
    defined: dict[str, Any] = answer.json()["data"]
    return defined


async def give(admin: Person, person: Person, custom_role: str) -> None:
    answer = await admin.patch(f"/v1/admin/identity/users/{person.user_id}/role", json={"custom_role": custom_role})
    assert answer.status_code == 200, answer.text


async def test_the_actions_are_listed_with_the_least_role_of_each(api: Api) -> None:
    items = (await (await api.person()).get("/v1/admin/authz/actions")).json()["data"]["items"]
    least = {item["action"]: item["least_role"] for item in items}
    assert least.keys() == set(Action)
    assert (least["corpora.read"], least["documents.create"], least["users.manage"]) == ("reader", "editor", "admin")
    assert [action for action, role in least.items() if role is None] == ["scim.provision"]


async def test_a_role_stands_for_the_least_built_in_one_that_has_its_actions(api: Api) -> None:
    admin = await api.person()
    for role_id, actions, base in (
        ("viewers", ["corpora.read"], "reader"),
        ("writers", ["documents.create", "corpora.read"], "editor"),
        ("auditors", ["ops.read", "corpora.read"], "admin"),
    ):
        defined = await define(admin, role_id, *actions, actions[0])
        assert (defined["id"], defined["base"], defined["actions"]) == (role_id, base, sorted(actions))
    assert [role["id"] for role in (await admin.get(ROLES)).json()["data"]["items"]] == ["auditors", "viewers", "writers"]
    (event, *_) = await audited(api, admin.tenant, "authz.role.defined")
    assert (event["resource_id"], event["actor_id"]) == ("viewers", admin.key_id)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "admin"}, {"id": "Auditors"}, {"id": ""}, {"id": "a" * 64}, {"actions": []}, {"actions": ["corpora.burn"]},
        {"actions": ["scim.provision"]}, {"name": ""}, {"base": "admin"}, {"tenant_id": "t1"},
    ],
)  # fmt: skip
async def test_a_faulty_role_is_not_defined(api: Api, fields: dict[str, Any]) -> None:
    admin = await api.person()
    answer = await admin.post(ROLES, json={"id": "auditors", "name": "Auditors", "actions": ["ops.read"], **fields})
    assert answer.status_code == 422, answer.text
    assert (await admin.get(ROLES)).json()["data"]["items"] == []


async def test_an_id_is_taken_once(api: Api) -> None:
    admin = await api.person()
    await define(admin, "auditors", "ops.read")
    again = {"id": "auditors", "name": "Others", "actions": ["corpora.read"]}
    assert error_of(await admin.post(ROLES, json=again)) == ("CONFLICT", 409)
    assert (await (await api.person()).post(ROLES, json=again)).status_code == 201, "other tenants have roles of their own"


async def test_a_tenant_has_not_more_roles_than_can_be_read_at_each_login(api: Api) -> None:
    admin = await api.person()
    await rows(
        api,
        "insert into custom_roles (tenant_id, id, name, base, actions) "
        "select $1, 'r' || n, 'x', 'reader', '{}' from generate_series(1, 100) n",
        admin.tenant,
    )
    answer = await admin.post(ROLES, json={"id": "one-more", "name": "x", "actions": ["ops.read"]})
    assert error_of(answer) == ("CONFLICT", 409)


async def test_its_holder_may_do_what_it_says_and_nothing_else(api: Api) -> None:
    admin = await api.person()
    person = await api.person("admin", admin.tenant)
    await define(admin, "founders", "corpora.create", "corpora.read", "roles.read")
    await give(admin, person, "founders")
    assert (await person.post("/v1/corpora", json={"name": "x"})).status_code == 201
    assert (await person.get(ROLES)).status_code == 200
    for answer in (
        await person.get("/v1/documents"),
        await person.get("/v1/ops/health"),
        await person.post(ROLES, json={"id": "x", "name": "x", "actions": ["corpora.read"]}),
    ):
        assert error_of(answer) == FORBIDDEN
    (shown,) = [user for user in await users(admin) if user["id"] == person.user_id]
    assert (shown["role"], shown["custom_role"]) == ("admin", "founders")


async def users(admin: Person) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await admin.get("/v1/admin/identity/users")).json()["data"]["items"]
    return items


async def test_nobody_defines_or_gives_what_they_lack(api: Api) -> None:
    admin = await api.person()
    maker = await api.person("admin", admin.tenant)
    other = await api.person("reader", admin.tenant)
    mine = ["corpora.read", "roles.read", "roles.manage", "users.manage"]
    await define(admin, "makers", *mine)
    await define(admin, "auditors", "corpora.read", "ops.read")
    await give(admin, maker, "makers")
    assert (await maker.post(ROLES, json={"id": "less", "name": "x", "actions": ["corpora.read"]})).status_code == 201
    more = await maker.post(ROLES, json={"id": "more", "name": "x", "actions": ["corpora.read", "ops.read"]})
    assert error_of(more) == FORBIDDEN
    assert more.json()["error"]["details"] == {"missing_actions": ["ops.read"]}
    assert error_of(await maker.patch(f"{ROLES}/less", json={"actions": [*mine, "runs.create"]})) == FORBIDDEN
    for choice in ({"role": "reader"}, {"role": "admin"}, {"custom_role": "auditors"}):
        answer = await maker.patch(f"/v1/admin/identity/users/{other.user_id}/role", json=choice)
        assert error_of(answer) == FORBIDDEN, choice
    answer = await maker.patch(f"/v1/admin/identity/users/{other.user_id}/role", json={"custom_role": "less"})
    assert answer.status_code == 200


async def test_a_change_acts_on_its_holders(api: Api) -> None:
    admin = await api.person()
    person = await api.person("admin", admin.tenant)
    await define(admin, "founders", "corpora.read")
    await give(admin, person, "founders")
    assert error_of(await person.post("/v1/corpora", json={"name": "x"})) == FORBIDDEN
    patched = await admin.patch(f"{ROLES}/founders", json={"actions": ["corpora.read", "corpora.create"], "description": "They begin."})
    assert (patched.json()["data"]["base"], patched.json()["data"]["description"]) == ("editor", "They begin.")

    async def made() -> int:
        return (await person.post("/v1/corpora", json={"name": "x"})).status_code

    await soon(made, 201)
    assert [user["role"] for user in await users(admin) if user["id"] == person.user_id] == ["editor"]


async def test_a_role_that_is_held_stays(api: Api) -> None:
    admin = await api.person()
    person = await api.person("reader", admin.tenant)
    await define(admin, "viewers", "corpora.read")
    await give(admin, person, "viewers")
    assert error_of(await admin.delete(f"{ROLES}/viewers")) == ("CONFLICT", 409)
    made = (await admin.post("/v1/self-serve/api-keys", json={"custom_role": "viewers"})).json()["data"]
    await admin.patch(f"/v1/admin/identity/users/{person.user_id}/role", json={"role": "reader"})
    assert error_of(await admin.delete(f"{ROLES}/viewers")) == ("CONFLICT", 409)
    await admin.post(f"/v1/self-serve/api-keys/{made['key_id']}/revoke")
    assert (await admin.delete(f"{ROLES}/viewers")).status_code == 204
    assert error_of(await admin.delete(f"{ROLES}/viewers")) == ("NOT_FOUND", 404)
    (event,) = await audited(api, admin.tenant, "authz.role.deleted")
    assert event["resource_id"] == "viewers"


async def test_what_was_granted_to_a_role_goes_with_it(api: Api) -> None:
    admin = await api.person()
    document = await admin.text(await admin.corpus(), "Only for viewers.")
    await define(admin, "viewers", "corpora.read", "documents.read")
    await grant(api, admin, document, ("role", "viewers"))
    await admin.delete(f"{ROLES}/viewers")
    granted = "select count(*) from document_permissions where tenant_id = $1 and principal_type = 'role'"
    assert await count(api, granted, admin.tenant) == 0


async def test_an_unknown_role_cannot_be_given(api: Api) -> None:
    admin, stranger = await api.person(), await api.person()
    await define(stranger, "theirs", "corpora.read")
    for custom_role in ("nobody", "theirs", "admin"):
        answer = await admin.patch(f"/v1/admin/identity/users/{admin.user_id}/role", json={"custom_role": custom_role})
        assert error_of(answer) == ("VALIDATION_ERROR", 422)
    for body in ({}, {"role": "reader", "custom_role": "x"}, {"role": "emperor"}, {"role": "reader", "status": "active"}):
        answer = await admin.patch(f"/v1/admin/identity/users/{admin.user_id}/role", json=body)
        assert error_of(answer) == ("VALIDATION_ERROR", 422), body


def test_no_role_of_people_has_the_action_of_provisioning_clients() -> None:
    assert all(Action.SCIM_PROVISION not in ACTIONS_OF[role] for role in Role)
