"""Groups as a provisioning client keeps them: names, and thousands of members who come and go."""

import asyncio
import json
from typing import Any

import pytest

from tests.identity.scim.client import CORE, Scim, provisioning, refused
from tests.support.api import Api
from tests.support.behind import audited, count, rows


def ids(group: Any) -> list[str]:
    return sorted(one["value"] for one in group.get("members", []))


@pytest.fixture
async def client(api: Api) -> Scim:
    return await provisioning(api)


async def people(client: Scim, *names: str) -> list[str]:
    return [(await client.user(name))["id"] for name in names]


async def test_a_group_and_its_members_are_shown_from_both_sides(client: Scim) -> None:
    ann, bob = await people(client, "ann", "bob")
    group = await client.group("Red", ann, externalId="r")
    assert (group["displayName"], group["externalId"], group["schemas"]) == ("Red", "r", [f"{CORE}Group"])
    assert group["members"] == [{"value": ann, "$ref": f"{client.base}/Users/{ann}", "type": "User"}]
    assert (await client.get(f"/Groups/{group['id']}")).json() == group
    shown = (await client.get(f"/Users/{ann}")).json()["groups"]
    assert shown == [{"value": group["id"], "$ref": f"{client.base}/Groups/{group['id']}", "display": "Red", "type": "direct"}]
    assert "groups" not in (await client.get(f"/Users/{bob}")).json()
    (listed,) = (await client.get("/Groups")).json()["Resources"]
    assert listed == group
    (without,) = (await client.get("/Groups", params={"excludedAttributes": "members"})).json()["Resources"]
    assert without == {name: value for name, value in group.items() if name != "members"}


async def test_a_name_belongs_to_one_group(client: Scim) -> None:
    await client.group("Red")
    blue = await client.group("Blue")
    for answer in (
        await client.post("/Groups", {"schemas": [f"{CORE}Group"], "displayName": "RED"}),
        await client.put(f"/Groups/{blue['id']}", {"schemas": [f"{CORE}Group"], "displayName": "red"}),
        await client.patch(f"/Groups/{blue['id']}", {"op": "replace", "value": {"displayName": "rEd"}}),
    ):
        assert refused(answer) == (409, "uniqueness")
    answers = await asyncio.gather(*(client.post("/Groups", {"displayName": "Green"}) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]


MEMBERS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "add one": ([{"op": "add", "path": "members", "value": [{"value": "{c}"}]}], "abc"),
    "add, not in a list": ([{"op": "Add", "path": "members", "value": {"value": "{c}"}}], "abc"),
    "add who is in": ([{"op": "add", "path": "members", "value": [{"value": "{a}"}]}], "ab"),
    "add without a path": ([{"op": "Add", "value": {"members": [{"value": "{c}"}, {"value": "{d}"}]}}], "abcd"),
    "add by plain ids": ([{"op": "add", "path": "members", "value": ["{c}", "{d}"]}], "abcd"),
    "add with a display name": (
        [{"op": "add", "path": "members", "value": [{"value": "{c}", "display": "Cyd", "$ref": "../Users/x"}]}],
        "abc",
    ),
    "remove by selection": ([{"op": "remove", "path": 'members[value eq "{a}"]'}], "b"),
    "remove by selection in any case": ([{"op": "Remove", "path": 'MEMBERS[VALUE EQ "{a}"]'}], "b"),
    "remove several": ([{"op": "remove", "path": 'members[value eq "{a}" or value eq "{b}"]'}], ""),
    "remove all but one": ([{"op": "remove", "path": 'members[not (value eq "{a}")]'}], "a"),
    "remove by address": ([{"op": "remove", "path": 'members[$ref ew "/Users/{b}"]'}], "a"),
    "remove by value": ([{"op": "Remove", "path": "members", "value": [{"value": "{a}"}]}], "b"),
    "remove nobody": ([{"op": "Remove", "path": "members", "value": []}], "ab"),
    "remove who is not in": ([{"op": "remove", "path": 'members[value eq "{c}"]'}], "ab"),
    "remove everybody": ([{"op": "remove", "path": "members"}], ""),
    "replace": ([{"op": "replace", "path": "members", "value": [{"value": "{c}"}]}], "c"),
    "replace without a path": ([{"op": "replace", "value": {"members": [{"value": "{c}"}, {"value": "{a}"}]}}], "ac"),
    "replace by nobody": ([{"op": "replace", "path": "members", "value": []}], ""),
    "one after the other": (
        [
            {"op": "add", "path": "members", "value": [{"value": "{c}"}]},
            {"op": "remove", "path": 'members[value eq "{a}"]'},
            {"op": "replace", "path": "displayName", "value": "R"},
            {"op": "remove", "path": 'members[value eq "{c}"]'},
        ],
        "b",
    ),
    "under its URN": ([{"op": "add", "path": f"{CORE}Group:members", "value": [{"value": "{c}"}]}], "abc"),
    "with the id beside": ([{"op": "replace", "value": {"id": "{a}", "displayName": "S", "members": [{"value": "{d}"}]}}], "d"),
}


@pytest.mark.parametrize(("operations", "expected"), MEMBERS.values(), ids=MEMBERS.keys())
async def test_members_come_and_go(client: Scim, operations: list[dict[str, Any]], expected: str) -> None:
    known = dict(zip("abcd", await people(client, *"abcd"), strict=True))
    group = await client.group("Red", known["a"], known["b"])
    text = json.dumps(operations)
    for name, key in known.items():
        text = text.replace(f"{{{name}}}", key)
    answer = await client.patch(f"/Groups/{group['id']}", *json.loads(text))
    assert answer.status_code == 200, answer.text
    assert ids(answer.json()) == sorted(known[name] for name in expected)
    assert ids((await client.get(f"/Groups/{group['id']}")).json()) == ids(answer.json())


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "add", "path": "members", "value": [{"value": "usr_nobody"}]}, "invalidValue"),
        ({"op": "add", "path": "members", "value": [{"value": "{self}"}]}, "invalidValue"),
        ({"op": "add", "path": "members", "value": [{"value": "{other}", "type": "Group"}]}, "invalidValue"),
        ({"op": "add", "path": "members", "value": [{"value": "{other}"}]}, "invalidValue"),
        ({"op": "add", "path": "members", "value": [{"value": "{service}"}]}, "invalidValue"),
        ({"op": "add", "path": "members", "value": [{"display": "Ann"}]}, "invalidValue"),
        ({"op": "add", "path": "members", "value": [7]}, "invalidValue"),
        ({"op": "replace", "path": 'members[value eq "{a}"].value', "value": "x"}, "mutability"),
        ({"op": "replace", "path": 'members[value eq "{a}"]', "value": {"value": "x"}}, "mutability"),
        ({"op": "replace", "path": "members.value", "value": "x"}, "mutability"),
        ({"op": "remove", "path": "displayName"}, "mutability"),
        ({"op": "replace", "path": "displayName", "value": " "}, "invalidValue"),
        ({"op": "replace", "path": "meta", "value": {}}, "mutability"),
        ({"op": "add", "path": "owners", "value": "x"}, "invalidPath"),
        ({"op": "remove", "path": 'members[nothing eq "x"]'}, "invalidFilter"),
        ({"op": "replace", "path": "role", "value": "admin"}, "invalidPath"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_members_are_checked(client: Scim, operation: dict[str, Any], expected: str) -> None:
    (ann,) = await people(client, "ann")
    group, other = await client.group("Red", ann), await client.group("Blue")
    text = json.dumps(operation)
    for name, key in (("self", group["id"]), ("other", other["id"]), ("service", client.admin.user_id), ("a", ann)):
        text = text.replace(f"{{{name}}}", key)
    extra = {"op": "replace", "path": "externalId", "value": "new"}
    assert refused(await client.patch(f"/Groups/{group['id']}", extra, json.loads(text))) == (400, expected)
    assert (await client.get(f"/Groups/{group['id']}")).json() == group


async def test_a_replacement_clears_what_it_leaves_out(client: Scim) -> None:
    ann, bob = await people(client, "ann", "bob")
    group = await client.group("Red", ann, externalId="r")
    body = {"schemas": [f"{CORE}Group"], "displayName": "Red", "externalId": "r", "members": [{"value": bob}, {"value": bob}]}
    assert ids((await client.put(f"/Groups/{group['id']}", body)).json()) == [bob]
    bare = (await client.put(f"/Groups/{group['id']}", {"schemas": [f"{CORE}Group"], "displayName": "Blue"})).json()
    assert bare.keys() == {"schemas", "id", "displayName", "meta"}
    assert refused(await client.put(f"/Groups/{group['id']}", {"schemas": [f"{CORE}Group"]})) == (400, "invalidValue")


async def test_two_who_join_at_the_same_time_are_both_in(api: Api, client: Scim) -> None:
    everybody = await people(client, *(f"p{number}" for number in range(12)))
    group = await client.group("Red", *everybody[:2])
    adding = [{"op": "add", "path": "members", "value": [{"value": one}]} for one in everybody[2:]]
    leaving = [{"op": "remove", "path": f'members[value eq "{one}"]'} for one in everybody[:2]]
    admins = "/v1/admin/identity/groups"
    local = client.admin.post(f"{admins}/{group['id']}/members", json={"user_ids": [client.admin.user_id]})
    answers = await asyncio.gather(*(client.patch(f"/Groups/{group['id']}", operation) for operation in adding + leaving), local)
    assert {answer.status_code for answer in answers} == {200}
    assert ids((await client.get(f"/Groups/{group['id']}")).json()) == sorted(everybody[2:])
    # Whom an admin has put in beside, for a key, is nobody's to provision and stays.
    assert await count(api, "select count(*) from group_members where group_id = $1", group["id"]) == 11
    await client.patch(f"/Groups/{group['id']}", {"op": "remove", "path": "members"})
    assert await count(api, "select count(*) from group_members where group_id = $1", group["id"]) == 1


async def test_what_changes_nothing_leaves_no_trace(api: Api, client: Scim) -> None:
    (ann,) = await people(client, "ann")
    group = await client.group("Red", ann)
    body = {"schemas": [f"{CORE}Group"], "displayName": "Red", "members": [{"value": ann}]}
    for answer in (
        await client.put(f"/Groups/{group['id']}", body),
        await client.patch(f"/Groups/{group['id']}", {"op": "add", "path": "members", "value": [{"value": ann}]}),
        await client.patch(f"/Groups/{group['id']}", {"op": "replace", "path": "displayName", "value": "Red"}),
    ):
        assert answer.json() == group
    assert len(await audited(api, client.tenant, "identity.scim.group.updated")) == 1
    await client.patch(f"/Groups/{group['id']}", {"op": "remove", "path": "members"})
    await client.delete(f"/Groups/{group['id']}")
    events = [json.loads(event["metadata"]) for event in await audited(api, client.tenant, "identity.scim.group.updated")]
    assert [(event["change"], event.get("added"), event.get("removed")) for event in events] == [
        ("created", 1, None),
        ("changed", 0, 1),
        ("deleted", None, None),
    ]


async def test_a_group_that_is_deleted_is_gone(client: Scim) -> None:
    (ann,) = await people(client, "ann")
    group = await client.group("Red", ann)
    assert (await client.delete(f"/Groups/{group['id']}")).status_code == 204
    for method in ("GET", "DELETE"):
        assert refused(await client.http.request(method, f"/Groups/{group['id']}")) == (404, None)
    assert "groups" not in (await client.get(f"/Users/{ann}")).json()
    await client.group("Red")


async def test_who_is_removed_is_in_no_group(client: Scim) -> None:
    ann, bob = await people(client, "ann", "bob")
    group = await client.group("Red", ann, bob)
    await client.delete(f"/Users/{ann}")
    assert ids((await client.get(f"/Groups/{group['id']}")).json()) == [bob]


@pytest.mark.slow
async def test_a_group_may_have_more_members_than_a_statement_has_parameters(api: Api, client: Scim) -> None:
    most = 12_000
    await rows(
        api,
        "insert into users (tenant_id, id, external_subject, user_name, role) "
        "select $1, $1 || 'u' || n, $1 || 'u' || n, 'u' || n, 'reader' from generate_series(1, $2) n",
        client.tenant,
        most,
    )
    everybody = [{"value": f"{client.tenant}u{number}"} for number in range(1, most + 1)]
    group = await client.group("Red")
    path = f"/Groups/{group['id']}?excludedAttributes=members"
    assert (await client.patch(path, {"op": "add", "path": "members", "value": everybody})).status_code == 200
    inside = "select count(*) from group_members where group_id = $1"
    assert await count(api, inside, group["id"]) == most
    one_by_one = [{"op": "Remove", "path": f'members[value eq "{one["value"]}"]'} for one in everybody[:500]]
    assert (await client.patch(path, *one_by_one)).status_code == 200
    assert await count(api, inside, group["id"]) == most - 500
    assert (await client.put(path, {"displayName": "Red", "members": everybody[:1]})).status_code == 200
    assert await count(api, inside, group["id"]) == 1
