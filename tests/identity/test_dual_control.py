"""With IDENTITY_DUAL_CONTROL_REQUIRED nobody is raised by one admin alone, on whatever way."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.identity.accounts.people import invitation, new_address, register
from tests.identity.test_groups import GROUPS, group, sees_operations
from tests.identity.test_users import USERS
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, rows
from tests.support.installation import Servers, serving
from tests.support.soon import soon

CHANGES = "/v1/admin/identity/role-changes"
CONFLICT, FORBIDDEN = ("CONFLICT", 409), ("AUTH_FORBIDDEN", 403)


@pytest.fixture(scope="module")
async def strict(servers: Servers) -> AsyncIterator[Api]:
    async with serving(servers.with_env(IDENTITY_DUAL_CONTROL_REQUIRED="true")) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


@pytest.fixture
async def people(strict: Api) -> tuple[Person, Person, Person]:
    """Two admins, and a reader whose key may do whatever they may."""
    first = await strict.person()
    second, person = [await strict.person("admin", first.tenant) for _ in range(2)]
    assert (await first.patch(f"{USERS}/{person.user_id}/role", json={"role": "reader"})).status_code == 200, "lowering needs one"
    return first, second, person


async def ask(admin: Person, person: Person, role: str = "admin") -> str:
    answer = await admin.patch(f"{USERS}/{person.user_id}/role", json={"role": role})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["data"]["pending"]["id"])


async def pending(admin: Person) -> list[str]:
    return [change["id"] for change in (await admin.get(CHANGES)).json()["data"]["items"]]


async def test_a_higher_role_comes_with_the_second_admin(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, second, person = people
    answer = await first.patch(f"{USERS}/{person.user_id}/role", json={"role": "admin"})
    data = answer.json()["data"]
    assert (answer.status_code, data["role"], data["status"]) == (202, "reader", "active")
    change = data["pending"]
    assert (change["role"], change["user_id"], change["status"], change["requested_by"]) == (
        "admin", person.user_id, "pending", first.user_id,
    )  # fmt: skip
    assert await sees_operations(person) == 403
    assert await pending(second) == [change["id"]]
    approved = (await second.post(f"{CHANGES}/{change['id']}/approve")).json()["data"]
    assert (approved["status"], approved["decided_by"]) == ("approved", second.user_id)
    await soon(lambda: sees_operations(person), 200)
    assert await pending(second) == []
    assert [one["status"] for one in (await first.get(CHANGES, params={"status": "all"})).json()["data"]["items"]] == ["approved"]
    for event, times in {"identity.role.change_requested": 1, "identity.role.changed": 2}.items():
        assert len(await audited(strict, first.tenant, event)) == times
    assert error_of(await second.post(f"{CHANGES}/{change['id']}/approve")) == CONFLICT


async def test_neither_who_asked_nor_whom_it_raises_is_a_second_admin(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, second, person = people
    change = await ask(first, person)
    key = (await first.post("/v1/self-serve/api-keys", json={"role": "admin"})).json()["data"]["api_key"]
    for answer in (
        await first.post(f"{CHANGES}/{change}/approve"),
        await first.client.post(f"{CHANGES}/{change}/approve", headers={"Authorization": f"Bearer {key}"}),
        await person.post(f"{CHANGES}/{change}/approve"),
    ):
        assert error_of(answer) == FORBIDDEN
    body = {"id": "hr", "name": "HR", "actions": ["users.read", "users.manage"]}
    await first.post("/v1/admin/authz/roles", json=body)
    assert (await first.patch(f"{USERS}/{second.user_id}/role", json={"custom_role": "hr"})).status_code == 200
    assert error_of(await second.post(f"{CHANGES}/{change}/approve")) == FORBIDDEN, "who lacks it cannot give it"
    back = await ask(first, second)
    assert error_of(await second.post(f"{CHANGES}/{back}/approve")) == FORBIDDEN
    assert await sees_operations(person) == 403


async def test_one_says_yes_once_however_many_try(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, second, person = people
    change = await ask(first, person)
    answers = await asyncio.gather(
        *(second.post(f"{CHANGES}/{change}/approve") for _ in range(3)), *(second.post(f"{CHANGES}/{change}/reject") for _ in range(3))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5


async def test_a_request_is_turned_down_or_withdrawn(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, second, person = people
    for who in (first, second):
        change = await ask(first, person)
        assert (await who.post(f"{CHANGES}/{change}/reject")).json()["data"]["status"] == "rejected"
        assert error_of(await second.post(f"{CHANGES}/{change}/approve")) == CONFLICT
    assert await sees_operations(person) == 403
    assert len(await audited(strict, first.tenant, "identity.role.change_rejected")) == 2


async def test_another_request_or_role_voids_the_one_that_waits(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, second, person = people
    one = await ask(first, person)
    two = await ask(second, person, "editor")
    assert await pending(first) == [two]
    assert error_of(await second.post(f"{CHANGES}/{one}/approve")) == CONFLICT
    assert (await first.post(f"{CHANGES}/{two}/approve")).status_code == 200
    three = await ask(first, person)
    assert (await first.patch(f"{USERS}/{person.user_id}/role", json={"role": "reader"})).status_code == 200
    assert error_of(await second.post(f"{CHANGES}/{three}/approve")) == CONFLICT
    assert await sees_operations(person) == 403


async def test_a_request_waits_seven_days(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, second, person = people
    change = await ask(first, person)
    aged = "update role_changes set expires_at = expires_at - interval '7 days', created_at = created_at - interval '7 days' where id = $1"
    await rows(strict, aged, change)
    assert await pending(first) == []
    assert error_of(await second.post(f"{CHANGES}/{change}/approve")) == CONFLICT
    (shown,) = (await first.get(CHANGES, params={"status": "all"})).json()["data"]["items"]
    assert shown["status"] == "expired"
    assert await ask(first, person) != change


async def test_a_role_that_was_redefined_is_asked_for_anew(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, second, person = people
    roles = "/v1/admin/authz/roles"
    body: dict[str, Any] = {"id": "auditors", "name": "Auditors", "actions": ["corpora.read", "corpora.create"]}
    await first.post(roles, json=body)
    answer = await first.patch(f"{USERS}/{person.user_id}/role", json={"custom_role": "auditors"})
    change = answer.json()["data"]["pending"]["id"]
    await first.delete(f"{roles}/auditors")
    assert error_of(await second.post(f"{CHANGES}/{change}/approve")) == CONFLICT
    await first.post(roles, json={**body, "actions": ["corpora.read", "ops.read"]})
    assert error_of(await second.post(f"{CHANGES}/{change}/approve")) == CONFLICT
    again = (await first.patch(f"{USERS}/{person.user_id}/role", json={"custom_role": "auditors"})).json()["data"]["pending"]
    assert (again["custom_role"], again["role"]) == ("auditors", "admin")
    assert (await second.post(f"{CHANGES}/{again['id']}/approve")).status_code == 200
    await soon(lambda: sees_operations(person), 200)


async def test_a_group_is_mapped_by_two_who_are_not_in_it(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, second, person = people
    group_id = (await first.post(GROUPS, json={"display_name": "Operators"})).json()["data"]["id"]
    members = f"{GROUPS}/{group_id}/members"
    await first.post(members, json={"user_ids": [person.user_id, second.user_id]})
    answer = await first.patch(f"{GROUPS}/{group_id}", json={"role": "admin"})
    assert (answer.status_code, answer.json()["data"]["role"]) == (202, None)
    change = answer.json()["data"]["pending"]["id"]
    assert error_of(await second.post(f"{CHANGES}/{change}/approve")) == FORBIDDEN
    await first.delete(f"{members}/{second.user_id}")
    assert (await second.post(f"{CHANGES}/{change}/approve")).json()["data"]["group_id"] == group_id
    await soon(lambda: sees_operations(person), 200)
    assert error_of(await first.post(members, json={"user_ids": [second.user_id]})) == CONFLICT
    assert (await first.patch(f"{GROUPS}/{group_id}", json={"role": "reader"})).status_code == 200
    await soon(lambda: sees_operations(person), 403)


async def test_no_other_way_raises_anybody(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, second, _ = people
    roles = "/v1/admin/authz/roles"
    await first.post(roles, json={"id": "auditors", "name": "Auditors", "actions": ["corpora.read", "runs.read"]})
    wider = await first.patch(f"{roles}/auditors", json={"actions": ["corpora.read", "ops.read"]})
    assert error_of(wider) == CONFLICT
    for role, status in (("editor", 409), ("admin", 409), ("reader", 201)):
        body = {"email": f"{role}@example.org", "role": role}
        assert (await first.post("/v1/admin/identity/invitations", json=body)).status_code == status, role
    assert (await first.patch(f"{roles}/auditors", json={"actions": ["corpora.read"]})).status_code == 200
    for answer in (
        await first.post(f"/v1/admin/api-keys/{second.key_id}/rotate"),
        await first.post("/v1/self-serve/api-keys", json={"role": "admin", "user_id": second.user_id}),
    ):
        assert error_of(answer) == FORBIDDEN, "with this key one would be one's own second admin"
    assert (await first.post(f"/v1/admin/api-keys/{first.key_id}/rotate")).status_code == 200


async def test_a_request_of_another_tenant_is_not_found(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, _, person = people
    change, stranger = await ask(first, person), await strict.person()
    for verb in ("approve", "reject"):
        assert error_of(await stranger.post(f"{CHANGES}/{change}/{verb}")) == ("NOT_FOUND", 404)
    assert await pending(stranger) == []


async def test_who_is_asked_about_a_group_is_not_answered_for_by_newcomers(strict: Api, people: tuple[Person, Person, Person]) -> None:
    first, second, person = people
    accomplice = await strict.person("admin", first.tenant)
    assert (await first.patch(f"{USERS}/{accomplice.user_id}/role", json={"role": "reader"})).status_code == 200
    group_id = await group(first, "Operators", person)
    change = (await first.patch(f"{GROUPS}/{group_id}", json={"role": "admin"})).json()["data"]["pending"]["id"]
    assert (await first.post(f"{GROUPS}/{group_id}/members", json={"user_ids": [accomplice.user_id]})).status_code == 200
    assert error_of(await second.post(f"{CHANGES}/{change}/approve")) == CONFLICT
    assert await sees_operations(accomplice) == 403


async def test_an_invitation_from_before_raises_nobody_either(api: Api, strict: Api) -> None:
    admin = await api.person()
    for role, status in (("admin", 401), ("reader", 201)):
        made = await invitation(admin, new_address(), role=role)
        assert (await register(strict.anonymous(), made["email"], made["token"])).status_code == status, role
