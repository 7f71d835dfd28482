"""People as a provisioning client keeps them, through the whole service: made, replaced, changed, removed; all or nothing, and once."""

import asyncio
import json
from typing import Any

import pytest

from nexusrag.kernel.ids import new_id
from tests.identity.scim.client import CORE, ENTERPRISE, provisioning, refused, without_meta
from tests.support.api import Api
from tests.support.behind import audited, count, rows

WHOLE: dict[str, Any] = {
    "externalId": "e1",
    "name": {"formatted": "Ada King", "familyName": "King", "givenName": "Ada", "honorificPrefix": "Countess"},
    "displayName": "Ada",
    "nickName": "A",
    "profileUrl": "http://169.254.169.254/ada",
    "title": "Dr",
    "userType": "Employee",
    "preferredLanguage": "en",
    "locale": "en-GB",
    "timezone": "Europe/London",
    "active": True,
    "emails": [{"value": "ada@x", "type": "work", "primary": True, "display": "d"}, {"value": "a@y"}],
    "phoneNumbers": [{"value": "tel:+44-1", "type": "mobile"}],
    "ims": [{"value": "ada", "type": "xmpp"}],
    "photos": [{"value": "http://127.0.0.1:1/x.png", "type": "photo"}],
    "addresses": [
        {"streetAddress": "1 St", "locality": "L", "region": "R", "postalCode": "P", "country": "GB", "type": "work", "primary": True}
    ],
    "entitlements": [{"value": "all"}],
    "roles": [{"value": "admin", "primary": True}],
    "x509Certificates": [{"value": "AAAA"}],
    ENTERPRISE: {
        "employeeNumber": "1",
        "costCenter": "c",
        "organization": "o",
        "division": "d",
        "department": "e",
        "manager": {"value": "usr_x", "$ref": "http://127.0.0.1:1/Users/usr_x"},
    },
}


async def test_everything_that_is_sent_comes_back(api: Api) -> None:
    client = await provisioning(api)
    made = await client.user("ada@x", schemas=[f"{CORE}User", ENTERPRISE], **WHOLE)
    assert without_meta(made) == {"userName": "ada@x", **WHOLE}
    assert made["schemas"] == [f"{CORE}User", ENTERPRISE]
    assert (await client.get(f"/Users/{made['id']}")).json() == made
    (row,) = await rows(api, "select * from users where id = $1", made["id"])
    assert (row["user_name"], row["external_id"], row["email"], row["display_name"]) == ("ada@x", "e1", "ada@x", "Ada")
    assert (row["role"], row["custom_role_id"], row["service"], row["status"], row["password_hash"]) == (
        "reader",
        None,
        False,
        "active",
        None,
    )


async def test_what_is_ours_to_say_is_not_taken_from_the_client(api: Api) -> None:
    client = await provisioning(api)
    made = await client.user(
        "ada",
        id="usr_mine",
        meta={"version": "x"},
        groups=[{"value": "g"}],
        password="secret",
        role="admin",
        tenant=1,
        shoeSize=7,
        USERTYPE="t",
    )
    assert made["id"] != "usr_mine"
    assert without_meta(made) == {"userName": "ada", "active": True, "userType": "t"}
    assert "secret" not in json.dumps([str(row) for row in await rows(api, "select * from users where id = $1", made["id"])])


@pytest.mark.parametrize(
    ("fields", "scim_type"),
    [
        ({"schemas": ["urn:x"]}, "invalidValue"),
        ({"schemas": f"{CORE}User"}, "invalidValue"),
        ({"active": "maybe"}, "invalidValue"),
        ({"emails": "x@y"}, None),
        ({"emails": {"value": "x@y"}}, None),
        ({"name": "Ada"}, "invalidValue"),
        ({"title": 7}, "invalidValue"),
        ({"emails": [{"value": 7}]}, "invalidValue"),
        ({"emails": [{"primary": "yes"}]}, "invalidValue"),
        ({"externalId": "x" * 257}, "invalidValue"),
        ({"photos": [{"value": "x" * 65_000}, {"value": "y" * 65_000}, {"value": "z" * 65_000}]}, "invalidValue"),
        ({"active": "TRUE"}, None),
        ({"emails": [{"value": "a", "primary": True}, {"value": "b", "primary": True}]}, "invalidValue"),
        ({"name": {}}, None),
        ({"title": None}, None),
        ({ENTERPRISE: {"manager": "usr_boss"}}, None),
        ({ENTERPRISE: "x"}, "invalidValue"),
        ({ENTERPRISE.upper(): {"DEPARTMENT": "d"}}, None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_new_person_is_checked(api: Api, fields: dict[str, Any], scim_type: str | None) -> None:
    client = await provisioning(api)
    answer = await client.post("/Users", {"schemas": [f"{CORE}User"], "userName": "ada", **fields})
    if scim_type is None:
        assert answer.status_code == 201, answer.text
    else:
        assert refused(answer) == (400, scim_type)
        assert await client.names() == []


async def test_a_name_belongs_to_one_person_whatever_its_case(api: Api) -> None:
    client = await provisioning(api)
    ada, bob = await client.user("Ada@X"), await client.user("bob")
    for answer in (
        await client.post("/Users", {"schemas": [f"{CORE}User"], "userName": "ada@x"}),
        await client.put(f"/Users/{bob['id']}", {"schemas": [f"{CORE}User"], "userName": "ADA@X", "title": "x"}),
        await client.patch(f"/Users/{bob['id']}", {"op": "replace", "path": "userName", "value": "aDa@x"}),
    ):
        assert refused(answer) == (409, "uniqueness")
    assert (await client.get(f"/Users/{bob['id']}")).json() == bob
    assert (await client.patch(f"/Users/{ada['id']}", {"op": "replace", "path": "userName", "value": "ADA@X"})).json()[
        "userName"
    ] == "ADA@X"
    await client.user("zoë")
    for name in ("ZOË", "ZOE\u0308"):
        assert refused(await client.post("/Users", {"schemas": [f"{CORE}User"], "userName": name})) == (409, "uniqueness")
    other = await provisioning(api)
    await other.user("Ada@X")


async def test_of_two_at_once_one_gets_the_name(api: Api) -> None:
    client = await provisioning(api)
    for number in range(5):
        body = {"schemas": [f"{CORE}User"], "userName": f"ada{number}"}
        answers = await asyncio.gather(*(client.post("/Users", body) for _ in range(3)))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
        assert {refused(answer) for answer in answers if answer.status_code == 409} == {(409, "uniqueness")}


async def test_who_is_removed_is_gone_and_the_name_is_free(api: Api) -> None:
    client = await provisioning(api)
    first = await client.user("ada")
    assert (await client.delete(f"/Users/{first['id']}")).status_code == 204
    for answer in (
        await client.get(f"/Users/{first['id']}"),
        await client.delete(f"/Users/{first['id']}"),
        await client.put(f"/Users/{first['id']}", {"userName": "ada"}),
        await client.patch(f"/Users/{first['id']}"),
    ):
        assert refused(answer) == (404, None)
    assert await client.names() == []
    second = await client.user("ADA")
    assert second["id"] != first["id"]
    assert await client.names(filter='userName eq "ada"') == ["ADA"]
    assert await count(api, "select count(*) from users where tenant_id = $1 and deleted_at is not null", client.tenant) == 1
    (event,) = await audited(api, client.tenant, "identity.scim.user.deleted")
    assert (event["resource_id"], event["actor_type"], event["actor_id"]) == (first["id"], "scim_token", client.token_id)


async def test_a_replacement_clears_what_it_leaves_out(api: Api) -> None:
    client = await provisioning(api)
    made = await client.user("ada@x", schemas=[f"{CORE}User", ENTERPRISE], **WHOLE)
    replaced = await client.put(f"/Users/{made['id']}", {"schemas": [f"{CORE}User"], "userName": "ada@x", "id": "usr_x", "title": "Prof"})
    assert without_meta(replaced.json()) == {"userName": "ada@x", "title": "Prof", "active": True}
    assert (replaced.json()["id"], replaced.json()["schemas"]) == (made["id"], [f"{CORE}User"])
    assert refused(await client.put(f"/Users/{made['id']}", {"schemas": [f"{CORE}User"]})) == (400, "invalidValue")
    (row,) = await rows(api, "select external_id, email, display_name from users where id = $1", made["id"])
    assert set(row.values()) == {None}


async def test_a_replacement_that_does_not_say_leaves_a_person_off(api: Api) -> None:
    client = await provisioning(api)
    made = await client.user("ada", active=False)
    assert made["active"] is False
    replaced = await client.put(f"/Users/{made['id']}", {"schemas": [f"{CORE}User"], "userName": "ada", "title": "x"})
    assert replaced.json()["active"] is False
    assert (await client.put(f"/Users/{made['id']}", {"userName": "ada", "active": "True"})).json()["active"] is True


async def test_of_several_operations_all_are_carried_out_or_none(api: Api) -> None:
    client = await provisioning(api)
    ada, bob = await client.user("ada", title="t", emails=[{"value": "a@x"}]), await client.user("bob")
    for last, expected in (
        ({"op": "replace", "path": "active", "value": "maybe"}, (400, "invalidValue")),
        ({"op": "remove", "path": 'emails[type eq "fax"]'}, (400, "noTarget")),
        ({"op": "replace", "path": "id", "value": bob["id"]}, (400, "mutability")),
        ({"op": "add", "path": "userName", "value": "BOB"}, (409, "uniqueness")),
    ):
        operations = [{"op": "replace", "path": "title", "value": "new"}, {"op": "add", "path": "nickName", "value": "n"}, last]
        assert refused(await client.patch(f"/Users/{ada['id']}", *operations, {"op": "remove", "path": "emails"})) == expected
        assert (await client.get(f"/Users/{ada['id']}")).json() == ada
    assert len(await audited(api, client.tenant, "identity.scim.user.updated")) == 2


async def test_what_changes_nothing_leaves_no_trace(api: Api) -> None:
    client = await provisioning(api)
    made = await client.user("ada@x", schemas=[f"{CORE}User", ENTERPRISE], **WHOLE)
    body = {name: value for name, value in made.items() if name != "meta"}
    for answer in (
        await client.put(f"/Users/{made['id']}", body),
        await client.patch(f"/Users/{made['id']}", {"op": "Replace", "path": "active", "value": "True"}),
        await client.patch(f"/Users/{made['id']}", {"op": "Add", "value": {"title": "Dr", "emails": WHOLE["emails"][:1]}}),
        await client.patch(f"/Users/{made['id']}"),
    ):
        assert (answer.status_code, answer.json()) == (200, made)
    (event,) = await audited(api, client.tenant, "identity.scim.user.updated")
    assert json.loads(event["metadata"])["change"] == "created"


async def test_events_name_what_changed_and_not_how(api: Api) -> None:
    client = await provisioning(api)
    made = await client.user("ada")
    await client.patch(f"/Users/{made['id']}", {"op": "add", "value": {"title": "Very private", "name": {"givenName": "A"}}})
    created, changed = await audited(api, client.tenant, "identity.scim.user.updated")
    assert (created["resource_type"], created["resource_id"], changed["resource_id"]) == ("user", made["id"], made["id"])
    assert json.loads(changed["metadata"])["attributes"] == ["name", "title"]
    assert "private" not in changed["metadata"]


async def test_changes_at_the_same_time_do_not_lose_each_other(api: Api) -> None:
    client = await provisioning(api)
    made = await client.user("ada")
    fields = ["title", "nickName", "locale", "timezone", "userType", "displayName"]
    operations = [{"op": "add", "path": name, "value": name} for name in fields]
    answers = await asyncio.gather(*(client.patch(f"/Users/{made['id']}", operation) for operation in operations))
    assert [answer.status_code for answer in answers] == [200] * len(fields)
    after = (await client.get(f"/Users/{made['id']}")).json()
    assert {name: after.get(name) for name in fields} == {name: name for name in fields}
    versions = [f'W/"{number}"' for number in range(1, 8)]
    assert sorted(answer.json()["meta"]["version"] for answer in answers) == versions[1:]
    one_of = await asyncio.gather(
        *(
            client.patch(f"/Users/{made['id']}", {"op": "add", "path": "title", "value": value}, headers={"If-Match": versions[-1]})
            for value in "abc"
        )
    )
    assert sorted(answer.status_code for answer in one_of) == [200, 412, 412]


async def test_an_external_id_is_never_an_id(api: Api) -> None:
    """CVE-2025-41115: the client's ids and ours are two things, even where they look alike."""
    client = await provisioning(api)
    ada = await client.user("ada", externalId="1")
    eve = await client.user("eve", externalId=ada["id"])
    for key in ("1", ada["id"].upper(), f"{ada['id']}%00", "usr_dev", client.admin.user_id):
        assert (await client.get(f"/Users/{key}")).status_code in (400, 404)
    assert (await client.get(f"/Users/{ada['id']}")).json()["userName"] == "ada"
    assert await client.names(filter=f'id eq "{ada["id"]}"') == ["ada"]
    group = await client.group("g", ada["id"])
    assert [one["value"] for one in group["members"]] == [ada["id"]]
    await client.delete(f"/Users/{ada['id']}")
    assert refused(await client.post("/Groups", {"displayName": "h", "members": [{"value": ada["id"]}]})) == (400, "invalidValue")
    assert (await client.get(f"/Users/{eve['id']}")).json()["externalId"] == ada["id"]


async def test_people_of_another_tenant_cannot_be_told_from_nobody(api: Api) -> None:
    client, other = await provisioning(api), await provisioning(api)
    user, group = await other.user("theirs", externalId="x"), await other.group("theirs")
    for kind, real in (("Users", user["id"]), ("Groups", group["id"])):
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            answers = []
            for key in (real, new_id("usr")):
                body = None if method in ("GET", "DELETE") else {"userName": "x", "displayName": "x", "Operations": []}
                answers.append(await client.http.request(method, f"/{kind}/{key}", json=body, headers={"X-Request-Id": "probe"}))
            assert answers[0].content == answers[1].content
            assert [answer.status_code for answer in answers] == [404, 404]
    mine = await client.group("mine")
    for answer in (
        await client.patch(f"/Groups/{mine['id']}", {"op": "add", "path": "members", "value": [{"value": user["id"]}]}),
        await client.post("/Groups", {"displayName": "h", "members": [{"value": user["id"]}]}),
    ):
        assert refused(answer) == (400, "invalidValue")
    assert await client.names(filter=f'id eq "{user["id"]}" or externalId eq "x"') == []
    assert (await other.get(f"/Users/{user['id']}")).json() == user


async def test_what_looks_like_an_address_is_never_fetched(api: Api) -> None:
    """Pictures, pages and references are kept as they are: nobody is called, whatever they say."""
    called: list[Any] = []

    async def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(writer)
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    client = await provisioning(api)
    made = await client.user("ada", photos=[{"value": url}], profileUrl=url, **{ENTERPRISE: {"manager": {"value": "x", "$ref": url}}})
    await client.post("/Groups", {"displayName": "g", "members": [{"value": made["id"], "$ref": url}]})
    assert (await client.get(f"/Users/{made['id']}")).json()["profileUrl"] == url
    server.close()
    assert called == []


async def test_an_account_of_our_own_is_taken_on_by_naming_it(api: Api) -> None:
    """Somebody who was here before the client is found by their address, cannot be made again, and is written from then on."""
    client = await provisioning(api)
    local = new_id("usr")
    await rows(
        api,
        "insert into users (tenant_id, id, external_subject, email, display_name, role) values ($1, $2, $2, 'ann@x', 'Ann', 'reader')",
        client.tenant,
        local,
    )
    assert refused(await client.post("/Users", {"schemas": [f"{CORE}User"], "userName": "ANN@x"})) == (409, "uniqueness")
    (found,) = (await client.get("/Users", params={"filter": 'userName eq "ann@X"'})).json()["Resources"]
    assert without_meta(found) == {
        "userName": "ann@x",
        "displayName": "Ann",
        "active": True,
        "emails": [{"value": "ann@x", "primary": True}],
    }
    body = {"schemas": [f"{CORE}User"], "userName": "ann@x", "displayName": "Ann", "active": True, "emails": found["emails"]}
    assert (await client.put(f"/Users/{local}", body)).json() == found
    (row,) = await rows(api, "select user_name, version from users where id = $1", local)
    assert (row["user_name"], row["version"]) == (None, 1)
    assert (await client.patch(f"/Users/{local}", {"op": "add", "path": "externalId", "value": "e"})).json()["externalId"] == "e"
    (row,) = await rows(api, "select user_name, email, external_id from users where id = $1", local)
    assert row == {"user_name": "ann@x", "email": "ann@x", "external_id": "e"}


async def test_an_address_that_opens_another_account_is_not_given_away(api: Api) -> None:
    """Who logs in with a password does so by their address, which is theirs alone in the tenant."""
    client = await provisioning(api)
    for name in ("a@x", "b@x"):
        await rows(
            api,
            "insert into users (tenant_id, id, external_subject, email, role, password_hash) values ($1, $2, $2, $3, 'reader', 'h')",
            client.tenant,
            f"{client.tenant}-{name}",
            name,
        )
    answer = await client.patch(f"/Users/{client.tenant}-a@x", {"op": "replace", "path": "emails", "value": [{"value": "B@x"}]})
    assert refused(answer) == (409, "uniqueness")
