"""Groups: people in them get the group's role beside their own, and what is granted to the group."""

import asyncio
from typing import Any

import pytest

from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, grant
from tests.support.soon import soon

GROUPS = "/v1/admin/identity/groups"
CONFLICT, FORBIDDEN = ("CONFLICT", 409), ("AUTH_FORBIDDEN", 403)


async def group(admin: Person, name: str = "Team", *people: Person, role: str | None = None) -> str:
    answer = await admin.post(GROUPS, json={"display_name": name})
    assert answer.status_code == 201, answer.text
    group_id = str(answer.json()["data"]["id"])
    if people:
        answer = await admin.post(f"{GROUPS}/{group_id}/members", json={"user_ids": [person.user_id for person in people]})
        assert (answer.status_code, answer.json()["data"]["members"]) == (200, len(people))
    if role is not None:
        assert (await admin.patch(f"{GROUPS}/{group_id}", json={"role": role})).json()["data"]["role"] == role
    return group_id


async def sees_operations(person: Person) -> int:
    return (await person.get("/v1/ops/health")).status_code


async def holder(api: Api, admin: Person, role: str = "reader") -> Person:
    """Someone of a lower role whose key may do whatever they may."""
    person = await api.person("admin", admin.tenant)
    answer = await admin.patch(f"/v1/admin/identity/users/{person.user_id}/role", json={"role": role})
    assert answer.status_code == 200
    return person


async def test_a_group_is_made_renamed_listed_and_deleted(api: Api) -> None:
    admin = await api.person()
    group_id = await group(admin, "Team", await api.person("reader", admin.tenant), admin)
    assert error_of(await admin.post(GROUPS, json={"display_name": "TEAM"})) == CONFLICT
    assert (await admin.patch(f"{GROUPS}/{group_id}", json={"display_name": "Crew"})).json()["data"]["display_name"] == "Crew"
    other = await group(admin, "Team")
    assert error_of(await admin.patch(f"{GROUPS}/{other}", json={"display_name": "crew"})) == CONFLICT
    listed = (await admin.get(GROUPS)).json()["data"]["items"]
    assert [(one["display_name"], one["members"], one["role"]) for one in listed] == [("Team", 0, None), ("Crew", 2, None)]
    assert (await admin.delete(f"{GROUPS}/{group_id}")).status_code == 204
    assert error_of(await admin.delete(f"{GROUPS}/{group_id}")) == ("NOT_FOUND", 404)
    assert await count(api, "select count(*) from group_members where tenant_id = $1", admin.tenant) == 0
    for event, times in {"identity.group.created": 2, "identity.group.updated": 2, "identity.group.deleted": 1}.items():
        assert len(await audited(api, admin.tenant, event)) == times, event


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {}), ("", {"display_name": " "}), ("", {"display_name": "n" * 201}), ("", {"display_name": "x", "role": "admin"}),
        ("/{group_id}", {"display_name": None}), ("/{group_id}", {"role": "emperor"}), ("/{group_id}", {"external_id": "x"}),
        ("/{group_id}/members", {"user_ids": []}), ("/{group_id}/members", {"user_ids": ["usr_nobody"]}), ("/{group_id}/members", {}),
    ],
)  # fmt: skip
async def test_a_faulty_group_is_refused(api: Api, path: str, body: dict[str, Any]) -> None:
    admin = await api.person()
    group_id = await group(admin)
    method = "PATCH" if path == "/{group_id}" else "POST"
    answer = await admin.client.request(method, GROUPS + path.format(group_id=group_id), json=body)
    assert error_of(answer) == ("VALIDATION_ERROR", 422)


async def test_members_are_added_all_or_none_and_once(api: Api) -> None:
    admin, stranger = await api.person(), await api.person()
    person = await api.person("reader", admin.tenant)
    group_id = await group(admin)
    path = f"{GROUPS}/{group_id}/members"
    for unknown in (stranger.user_id, new_id("usr")):
        answer = await admin.post(path, json={"user_ids": [person.user_id, unknown]})
        assert error_of(answer) == ("VALIDATION_ERROR", 422)
        assert answer.json()["error"]["details"]["unknown"] == [unknown]
    assert (await admin.get(path)).json()["data"]["items"] == []
    answers = await asyncio.gather(*(admin.post(path, json={"user_ids": [person.user_id, person.user_id]}) for _ in range(4)))
    assert [answer.json()["data"]["members"] for answer in answers] == [1] * 4
    (member,) = (await admin.get(path)).json()["data"]["items"]
    assert (member["id"], member["status"]) == (person.user_id, "active")
    assert (await admin.delete(f"{path}/{person.user_id}")).json()["data"]["members"] == 0
    assert error_of(await admin.delete(f"{path}/{person.user_id}")) == ("NOT_FOUND", 404)


async def test_what_a_group_brings_comes_and_goes_within_a_second(api: Api) -> None:
    admin = await api.person()
    person = await holder(api, admin)
    assert await sees_operations(person) == 403
    group_id = await group(admin, "Operators", person)
    mapped = {"role": "admin"}
    for change, expected in (
        (admin.patch(f"{GROUPS}/{group_id}", json=mapped), 200),
        (admin.patch(f"{GROUPS}/{group_id}", json={"role": "editor"}), 403),
        (admin.patch(f"{GROUPS}/{group_id}", json=mapped), 200),
        (admin.patch(f"{GROUPS}/{group_id}", json={"role": None}), 403),
        (admin.patch(f"{GROUPS}/{group_id}", json=mapped), 200),
        (admin.delete(f"{GROUPS}/{group_id}/members/{person.user_id}"), 403),
        (admin.post(f"{GROUPS}/{group_id}/members", json={"user_ids": [person.user_id]}), 200),
        (admin.delete(f"{GROUPS}/{group_id}"), 403),
    ):
        assert (await change).status_code in (200, 204)
        await soon(lambda: sees_operations(person), expected)
    assert len(await audited(api, admin.tenant, "identity.group.mapped")) == 5


async def test_what_is_granted_to_a_group_is_its_members(api: Api) -> None:
    admin = await api.person()
    person = await api.person("reader", admin.tenant)
    document = await admin.text(await admin.corpus(), "For the team.")
    group_id = await group(admin)
    await grant(api, admin, document, ("group", group_id))

    async def reads() -> int:
        return (await person.get(f"/v1/documents/{document}")).status_code

    assert await reads() == 404
    await admin.post(f"{GROUPS}/{group_id}/members", json={"user_ids": [person.user_id]})
    await soon(reads, 200)
    await admin.delete(f"{GROUPS}/{group_id}/members/{person.user_id}")
    await soon(reads, 404)


async def test_the_last_admin_may_be_one_by_a_group_and_stays_in_it(api: Api) -> None:
    admin = await api.person()
    person = await holder(api, admin, "editor")
    group_id = await group(admin, "Admins", person, role="admin")
    assert (await admin.post(f"/v1/admin/identity/users/{admin.user_id}/disable")).status_code == 200
    await soon(lambda: sees_operations(person), 200)
    for answer in (
        await person.patch(f"{GROUPS}/{group_id}", json={"role": "editor"}),
        await person.patch(f"{GROUPS}/{group_id}", json={"role": None}),
        await person.delete(f"{GROUPS}/{group_id}"),
        await person.delete(f"{GROUPS}/{group_id}/members/{person.user_id}"),
        await person.post(f"/v1/admin/identity/users/{person.user_id}/disable"),
    ):
        assert error_of(answer) == CONFLICT
    assert await sees_operations(person) == 200


async def test_nobody_brings_people_what_they_lack(api: Api) -> None:
    admin = await api.person()
    manager = await api.person("admin", admin.tenant)
    body = {"id": "hr", "name": "HR", "actions": ["groups.read", "groups.manage"]}
    await admin.post("/v1/admin/authz/roles", json=body)
    await admin.patch(f"/v1/admin/identity/users/{manager.user_id}/role", json={"custom_role": "hr"})
    admins, plain = await group(admin, "Admins", role="admin"), await group(admin, "Plain")
    for answer in (
        await manager.post(f"{GROUPS}/{admins}/members", json={"user_ids": [manager.user_id]}),
        await manager.patch(f"{GROUPS}/{plain}", json={"role": "reader"}),
    ):
        assert error_of(answer) == FORBIDDEN
    assert (await manager.post(f"{GROUPS}/{plain}/members", json={"user_ids": [manager.user_id]})).status_code == 200


async def test_a_group_of_another_tenant_is_not_found(api: Api) -> None:
    admin, stranger = await api.person(), await api.person()
    theirs = await group(stranger)
    for answer in (
        await admin.patch(f"{GROUPS}/{theirs}", json={"role": "reader"}),
        await admin.delete(f"{GROUPS}/{theirs}"),
        await admin.get(f"{GROUPS}/{theirs}/members"),
        await admin.post(f"{GROUPS}/{theirs}/members", json={"user_ids": [admin.user_id]}),
        await admin.delete(f"{GROUPS}/{theirs}/members/{stranger.user_id}"),
    ):
        assert error_of(answer) == ("NOT_FOUND", 404)


async def test_a_group_that_is_changed_and_filled_at_once_has_both(api: Api) -> None:
    admin = await api.person()
    person = await api.person("reader", admin.tenant)
    group_id = await group(admin)
    path = f"{GROUPS}/{group_id}"
    for role in ("reader", "editor") * 5:
        changed, filled = await asyncio.gather(
            admin.patch(path, json={"display_name": f"Now {role}", "role": role}),
            admin.post(f"{path}/members", json={"user_ids": [person.user_id]}),
        )
        assert (changed.status_code, filled.status_code) == (200, 200)
        (shown,) = (await admin.get(GROUPS)).json()["data"]["items"]
        assert (shown["display_name"], shown["role"], shown["members"]) == (f"Now {role}", role, 1)
        assert (await admin.delete(f"{path}/members/{person.user_id}")).status_code == 200
