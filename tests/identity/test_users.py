"""People of a tenant: listed, given roles, disabled and enabled, and never so that nobody is left who could."""

import asyncio
from typing import Any

import pytest

from nexusrag.identity.users.facade import add_user, find_user, remove_user
from nexusrag.infra.database import Database
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, rows
from tests.support.soon import soon

USERS = "/v1/admin/identity/users"
CONFLICT = ("CONFLICT", 409)
OK = ("", 200)


async def role(admin: Person, person: Person, name: str) -> Any:
    return await admin.patch(f"{USERS}/{person.user_id}/role", json={"role": name})


async def met(person: Person, path: str = "/v1/corpora") -> tuple[str, int]:
    """What the person gets there: OK, or why not."""
    answer = await person.get(path)
    return OK if answer.status_code == 200 else error_of(answer)


async def test_people_are_listed_newest_first_a_page_at_a_time(api: Api) -> None:
    admin = await api.person()
    people = [admin, *[await api.person("reader", admin.tenant) for _ in range(4)]]
    await api.person()
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        data = (await admin.get(USERS, params=params)).json()["data"]
        seen += [item["id"] for item in data["items"]]
        if not data["page"]["has_more"]:
            break
        params["cursor"] = data["page"]["next_cursor"]
    assert seen == [person.user_id for person in reversed(people)]
    (first, *_) = (await admin.get(USERS)).json()["data"]["items"]
    assert first.keys() >= {
        "id", "tenant_id", "external_subject", "email", "display_name", "status", "role", "last_login_at", "created_at", "updated_at",
    }  # fmt: skip
    assert (first["tenant_id"], first["status"], first["role"], first["custom_role"]) == (admin.tenant, "active", "reader", None)
    assert "password" not in (await admin.get(USERS)).text


async def test_another_role_acts_within_a_second(api: Api) -> None:
    admin = await api.person()
    person = await api.person("admin", admin.tenant)
    assert await met(person, "/v1/ops/health") == OK
    answer = await role(admin, person, "editor")
    assert answer.json()["data"] == {
        "id": person.user_id, "status": "active", "role": "editor", "custom_role": None, "pending": None,
    }  # fmt: skip
    await soon(lambda: met(person, "/v1/ops/health"), ("AUTH_FORBIDDEN", 403))
    assert (await role(admin, person, "editor")).status_code == 200
    assert (await role(admin, person, "admin")).status_code == 200
    await soon(lambda: met(person, "/v1/ops/health"), OK)
    changes = await audited(api, admin.tenant, "identity.role.changed")
    assert [(change["resource_type"], change["resource_id"]) for change in changes] == [("user", person.user_id)] * 2
    assert '"previous_role": "admin"' in changes[0]["metadata"]


async def test_a_disabled_person_is_locked_out_until_enabled(api: Api) -> None:
    admin = await api.person()
    person = await api.person("admin", admin.tenant)
    second = (await person.post("/v1/self-serve/api-keys", json={"role": "reader"})).json()["data"]["api_key"]
    session = new_id("ses")
    await rows(
        api,
        "insert into auth_sessions (tenant_id, id, user_id, kind, expires_at) values ($1, $2, $3, 'password', now() + interval '1 day')",
        admin.tenant, session, person.user_id,
    )  # fmt: skip
    for _ in range(2):
        answer = await admin.post(f"{USERS}/{person.user_id}/disable")
        assert (answer.status_code, answer.json()["data"]["status"]) == (200, "disabled")
    await soon(lambda: met(person), ("AUTH_UNAUTHORIZED", 401))
    other = await api.anonymous().get("/v1/corpora", headers={"Authorization": f"Bearer {second}"})
    assert error_of(other) == ("AUTH_UNAUTHORIZED", 401)
    assert (await admin.post(f"{USERS}/{person.user_id}/enable")).json()["data"]["status"] == "active"
    await soon(lambda: met(person), OK)
    assert await count(api, "select count(*) from auth_sessions where id = $1 and revoked_at is not null", session) == 1
    assert len(await audited(api, admin.tenant, "identity.user.disabled")) == 1
    assert len(await audited(api, admin.tenant, "identity.user.enabled")) == 1


async def test_what_is_asked_for_several_times_at_once_is_done_once(api: Api) -> None:
    admin = await api.person()
    person = await api.person("admin", admin.tenant)
    await asyncio.gather(*(role(admin, person, "editor") for _ in range(5)))
    await asyncio.gather(*(admin.post(f"{USERS}/{person.user_id}/disable") for _ in range(5)))
    for event in ("identity.role.changed", "identity.user.disabled"):
        assert len(await audited(api, admin.tenant, event)) == 1, event


async def test_the_last_admin_can_be_neither_disabled_nor_lowered(api: Api) -> None:
    admin = await api.person()
    await api.person("editor", admin.tenant)
    gone = await api.person("admin", admin.tenant)
    assert (await admin.post(f"{USERS}/{gone.user_id}/disable")).status_code == 200
    full = {"id": "almighty", "name": "x", "actions": sorted({item["action"] for item in await actions(admin)} - {"scim.provision"})}
    assert (await admin.post("/v1/admin/authz/roles", json=full)).status_code == 201
    for answer in (
        await admin.post(f"{USERS}/{admin.user_id}/disable"),
        await role(admin, admin, "editor"),
        await admin.patch(f"{USERS}/{admin.user_id}/role", json={"custom_role": "almighty"}),
    ):
        assert error_of(answer) == CONFLICT
    assert await met(admin, "/v1/ops/health") == OK
    assert (await role(admin, admin, "admin")).status_code == 200


async def actions(admin: Person) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await admin.get("/v1/admin/authz/actions")).json()["data"]["items"]
    return items


async def test_admins_who_go_at_the_same_time_leave_one(api: Api) -> None:
    first = await api.person()
    people = [first, *[await api.person("admin", first.tenant) for _ in range(5)]]
    answers = await asyncio.gather(
        *(person.post(f"{USERS}/{person.user_id}/disable") for person in people[::2]),
        *(role(person, person, "reader") for person in people[1::2]),
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [409]
    left = "select count(*) from users where tenant_id = $1 and role = 'admin' and status = 'active'"
    assert await count(api, left, first.tenant) == 1


async def test_who_manages_people_without_an_admin_is_not_held_to_have_one(api: Api) -> None:
    admin = await api.person()
    manager = await api.person("admin", admin.tenant)
    reader = await api.person("reader", admin.tenant)
    body = {"id": "hr", "name": "HR", "actions": ["users.read", "users.manage"]}
    await admin.post("/v1/admin/authz/roles", json=body)
    await admin.patch(f"{USERS}/{manager.user_id}/role", json={"custom_role": "hr"})
    await rows(api, "update users set status = 'disabled' where id = $1", admin.user_id)
    assert (await manager.post(f"{USERS}/{reader.user_id}/disable")).status_code == 200


async def test_people_of_another_tenant_are_not_found(api: Api) -> None:
    admin, stranger = await api.person(), await api.person()
    for answer in (
        await role(admin, stranger, "reader"),
        await admin.post(f"{USERS}/{stranger.user_id}/disable"),
        await admin.post(f"{USERS}/{stranger.user_id}/enable"),
    ):
        assert error_of(answer) == ("NOT_FOUND", 404)


@pytest.mark.parametrize("action", ["identity.users", "api-keys", "authz.roles", "identity.groups"])
async def test_readers_and_editors_see_nothing_of_it(api: Api, action: str) -> None:
    for name in ("reader", "editor"):
        assert await met(await api.person(name), f"/v1/admin/{action.replace('.', '/')}") == ("AUTH_FORBIDDEN", 403)


async def test_a_person_who_was_removed_is_gone_but_for_their_id(api: Api) -> None:
    admin = await api.person()
    person = await api.person("admin", admin.tenant)
    database = api.resources.get(Database)
    assert await met(person) == OK
    async with database.work(admin.tenant) as work:
        user = await find_user(work, person.user_id)
        assert user is not None
        await remove_user(work, user)
    await soon(lambda: met(person), ("AUTH_UNAUTHORIZED", 401))
    assert [user["id"] for user in (await admin.get(USERS)).json()["data"]["items"]] == [admin.user_id]
    assert error_of(await admin.post(f"{USERS}/{person.user_id}/enable")) == ("NOT_FOUND", 404)
    with pytest.raises(ApiError, match="active admin"):
        async with database.work(admin.tenant) as work:
            last = await find_user(work, admin.user_id)
            assert last is not None
            await remove_user(work, last)
    assert await met(admin) == OK


async def test_a_name_to_log_in_with_is_free_again_when_its_owner_was_removed(api: Api) -> None:
    admin, name = await api.person(), new_id("n")
    database = api.resources.get(Database)
    async with database.work(admin.tenant) as work:
        user = await add_user(work, user_name=name, display_name="One")
        with pytest.raises(ApiError, match="there already"):
            await add_user(work, user_name=name.upper(), display_name="Two")
        await remove_user(work, user)
        assert (await add_user(work, user_name=name.upper(), display_name="Two")).id != user.id


async def test_a_login_that_is_being_made_ends_with_its_person(api: Api) -> None:
    admin = await api.person()
    person, session = await api.person("reader", admin.tenant), new_id("ses")
    connection = await api.servers.admin()
    login = connection.transaction()
    await login.start()
    await connection.execute("update users set last_login_at = now() where id = $1", person.user_id)
    await connection.execute(
        "insert into auth_sessions (tenant_id, id, user_id, kind, expires_at) values ($1, $2, $3, 'password', now() + interval '1 day')",
        admin.tenant, session, person.user_id,
    )  # fmt: skip
    disabling = asyncio.create_task(admin.post(f"{USERS}/{person.user_id}/disable"))
    waits = "select count(*) from pg_locks where not granted and $1 = any (pg_blocking_pids(pid))"
    await soon(lambda: count(api, waits, connection.get_server_pid()), 1, within_s=10)
    await login.commit()
    await connection.close()
    assert (await disabling).status_code == 200
    assert await count(api, "select count(*) from auth_sessions where id = $1 and revoked_at is null", session) == 0


async def test_the_keys_of_who_was_removed_are_revoked_and_hold_no_role(api: Api) -> None:
    admin, database = await api.person(), api.resources.get(Database)
    person = await api.person("admin", admin.tenant)
    assert (await admin.post("/v1/admin/authz/roles", json={"id": "r", "name": "x", "actions": ["corpora.read"]})).status_code == 201
    assert (await person.post("/v1/self-serve/api-keys", json={"custom_role": "r"})).status_code == 200
    async with database.work(admin.tenant) as work:
        user = await find_user(work, person.user_id)
        assert user is not None
        await remove_user(work, user)
    keys = (await admin.get("/v1/admin/api-keys")).json()["data"]["items"]
    assert [key["is_active"] for key in keys if key["user_id"] == person.user_id] == [False, False]
    assert (await admin.delete("/v1/admin/authz/roles/r")).status_code == 204
