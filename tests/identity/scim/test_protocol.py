"""What the protocol asks beside resources themselves: discovery, pages, order, which attributes are shown, versions, errors."""

import json
from typing import Any

import pytest

from nexusrag.identity.scim.schema import SCHEMAS
from tests.identity.scim.client import CORE, ENTERPRISE, MESSAGES, PREFIX, Scim, made, provisioning, refused
from tests.support.api import Api
from tests.support.behind import Held
from tests.support.installation import Servers, serving

NAMES = [f"user{number:02}" for number in range(7)]


@pytest.fixture(scope="module")
async def client(shared_api: Api) -> Scim:
    """A client whose tenant has seven people."""
    client = await provisioning(shared_api)
    for name in NAMES:
        await client.user(name)
    return client


async def test_what_is_offered_is_described(client: Scim) -> None:
    config = (await client.get("/ServiceProviderConfig")).json()
    assert {name: config[name]["supported"] for name in ("patch", "bulk", "filter", "changePassword", "sort", "etag")} == {
        "patch": True,
        "bulk": False,
        "filter": True,
        "changePassword": False,
        "sort": True,
        "etag": True,
    }
    assert (config["filter"]["maxResults"], config["bulk"]["maxOperations"]) == (200, 0)
    types = (await client.get("/ResourceTypes")).json()
    assert [(one["id"], one["endpoint"]) for one in types["Resources"]] == [("User", "/Users"), ("Group", "/Groups")]
    for one in types["Resources"]:
        assert (await client.get(f"/ResourceTypes/{one['id']}")).json() == one
        assert one["meta"]["location"] == f"{client.base}/ResourceTypes/{one['id']}"
    schemas = (await client.get("/Schemas")).json()
    assert schemas["totalResults"] == len(SCHEMAS) == 3
    for one in schemas["Resources"]:
        assert (await client.get(f"/Schemas/{one['id']}")).json() == one
    user = {one["name"]: one for one in schemas["Resources"][0]["attributes"]}
    assert "password" not in user
    assert (user["userName"]["required"], user["userName"]["uniqueness"], user["groups"]["mutability"]) == (True, "server", "readOnly")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/Users/made-up", (404, None)),
        ("GET", "/Groups/made-up", (404, None)),
        ("PATCH", "/Users/made-up", (404, None)),
        ("PUT", "/Groups/made-up", (404, None)),
        ("DELETE", "/Users/made-up", (404, None)),
        ("GET", "/nothing", (404, None)),
        ("GET", "/Users/", (404, None)),
        ("GET", "", (404, None)),
        ("GET", "/Schemas/made-up", (404, None)),
        ("GET", "/Users/%2e%2e", (404, None)),
        ("GET", "/ResourceTypes/Device", (404, None)),
        ("DELETE", "/Users", (405, None)),
        ("GET", "/Users/x/y", (404, None)),
        ("POST", "/Schemas", (405, None)),
        ("PUT", "/ServiceProviderConfig", (405, None)),
        ("POST", "/Users/made-up", (405, None)),
        ("GET", "/.search", (405, None)),
        ("GET", "/Me", (501, None)),
        ("POST", "/Me", (501, None)),
        ("PUT", "/Me", (501, None)),
        ("PATCH", "/Me", (501, None)),
        ("DELETE", "/Me", (501, None)),
        ("POST", "/Bulk", (501, None)),
        ("GET", "/Users/%00", (400, None)),
    ],
)
async def test_a_refusal_has_the_form_of_the_protocol(client: Scim, method: str, path: str, expected: tuple[int, str | None]) -> None:
    answer = await client.http.request(method, path, json={"Operations": []} if method in ("PATCH", "PUT") else None)
    assert refused(answer) == expected
    assert ("Allow" in answer.headers) is (expected[0] == 405)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("nonsense", (400, "invalidSyntax")),
        ("[]", (400, "invalidSyntax")),
        ("5", (400, "invalidSyntax")),
        ("null", (400, "invalidSyntax")),
        ("", (400, "invalidSyntax")),
        ('{"userName": "a", "userName": "b"}', (400, "invalidSyntax")),
        ('{"userName": "a", "USERNAME": "b"}', (400, "invalidSyntax")),
        ('{"userName": "\\u0000"}', (400, "invalidSyntax")),
        ('{"userName": "\\ud800"}', (400, "invalidSyntax")),
        ('{"userName": NaN}', (400, "invalidSyntax")),
        ('{"a": ' * 500 + "1" + "}" * 500, (400, "invalidSyntax")),
        ('{"tenant_id": "another", "userName": "x"}', (400, "invalidSyntax")),
        ('{"userName": "' + "x" * 257 + '"}', (400, "invalidValue")),
        ('{"userName": "  "}', (400, "invalidValue")),
        ('{"userName": "x", "nickName": "' + "x" * 70_000 + '"}', (400, "invalidValue")),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_body_that_makes_no_sense_is_refused(client: Scim, body: str, expected: tuple[int, str | None]) -> None:
    headers = {"Content-Type": "application/scim+json"}
    assert refused(await client.http.post("/Users", content=body, headers=headers)) == expected


async def test_another_media_type_is_refused_and_json_is_not(client: Scim) -> None:
    body = json.dumps({"schemas": [f"{CORE}User"], "userName": "typed"})
    for media_type, status in (("application/xml", 415), ("text/plain", 415), ("application/json", 201)):
        answer = await client.http.post("/Users", content=body, headers={"Content-Type": media_type})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/scim+json"
    await client.delete(f"/Users/{answer.json()['id']}")


async def test_a_failure_of_our_own_is_told_in_the_same_form(servers: Servers) -> None:
    async with serving(servers.with_env(API_DB_STATEMENT_TIMEOUT_MS="200")) as (app, url):
        api = Api(servers, app, url)
        client = await provisioning(api)
        user = await client.user("x")
        async with Held(api, client.tenant, "select 1 from users where tenant_id = '{}' for update"):
            answer = await client.patch(f"/Users/{user['id']}", {"op": "replace", "path": "title", "value": "x"})
        assert refused(answer)[0] >= 500
        await api.close()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, (7, 1, 7)),
        ({"startIndex": 1, "count": 3}, (7, 1, 3)),
        ({"startIndex": 4, "count": 3}, (7, 4, 3)),
        ({"startIndex": 7}, (7, 7, 1)),
        ({"startIndex": 8}, (7, 8, 0)),
        ({"startIndex": 0, "count": 2}, (7, 1, 2)),
        ({"startIndex": -5}, (7, 1, 7)),
        ({"count": 0}, (7, 1, 0)),
        ({"count": -1}, (7, 1, 0)),
        ({"count": 10**9}, (7, 1, 7)),
        ({"startIndex": 2**63}, (7, 2**62, 0)),
        ({"startIndex": 10**30}, (7, 2**62, 0)),
        ({"filter": 'userName sw "user0"', "count": 2}, (7, 1, 2)),
        ({"filter": 'userName eq "nobody"'}, (0, 1, 0)),
    ],
)
async def test_pages_are_cut_as_the_protocol_has_it(client: Scim, query: dict[str, Any], expected: tuple[int, int, int]) -> None:
    for answer in (await client.get("/Users", params=query), await client.post("/Users/.search", query)):
        if answer.status_code == 400 and query.get("startIndex", 0) >= 2**63:
            assert refused(answer) == (400, "invalidSyntax")  # no body holds such a number
            continue
        body = answer.json()
        assert (body["totalResults"], body["startIndex"], body["itemsPerPage"]) == expected
        assert len(body.get("Resources", [])) == expected[2]
        assert body["schemas"] == [f"{MESSAGES}ListResponse"]


@pytest.mark.parametrize("query", [{"startIndex": "x"}, {"count": "1.5"}, {"sortOrder": "up"}, {"sortBy": "nothing"}, {"sortBy": "name"}])
async def test_a_query_that_makes_no_sense_is_refused(client: Scim, query: dict[str, str]) -> None:
    status, scim_type = refused(await client.get("/Users", params=query))
    assert (status, scim_type) in ((400, "invalidValue"), (400, "invalidSyntax"))


async def test_pages_meet_everybody_once(client: Scim) -> None:
    for order in ({}, {"sortBy": "userName", "sortOrder": "descending"}, {"sortBy": "title"}):
        seen = [name for start in range(1, 9, 2) for name in await client.names(startIndex=start, count=2, **order)]
        assert sorted(seen) == NAMES, order


async def test_a_body_that_is_too_large_is_told_in_the_same_form(servers: Servers) -> None:
    async with serving(servers.with_env(MAX_JSON_BODY_BYTES="2048")) as (app, url):
        api = Api(servers, app, url)
        client = await provisioning(api)
        assert refused(await client.post("/Users", {"userName": "x" * 3000})) == (413, None)
        await api.close()


async def test_the_largest_page_is_a_setting(servers: Servers) -> None:
    async with serving(servers.with_env(SCIM_MAX_PAGE_SIZE="3", SCIM_DEFAULT_PAGE_SIZE="2")) as (app, url):
        api = Api(servers, app, url)
        client = await provisioning(api)
        for name in NAMES:
            await client.user(name)
        assert [len(await client.names(**query)) for query in ({}, {"count": 100}, {"count": 1})] == [2, 3, 1]
        assert (await client.get("/ServiceProviderConfig")).json()["filter"]["maxResults"] == 3
        await api.close()


async def test_what_has_no_value_is_sorted_last_or_first(api: Api) -> None:
    client = await provisioning(api)
    mails = lambda *values: [{"value": value, "primary": place == 1} for place, value in enumerate(values)]  # noqa: E731
    await client.user("a", title="b", emails=mails("z@x", "b@x"), active=False, externalId="B")
    await client.user("B", title="A", emails=mails("a@x"), name={"familyName": "z"}, externalId="a", **{ENTERPRISE: {"department": "y"}})
    await client.user("c", name={"familyName": "Y"}, **{ENTERPRISE: {"department": "Z"}})
    for sort_by, expected in {
        "userName": "aBc",
        "USERNAME": "aBc",
        "title": "Bac",
        "emails": "Bac",
        "emails.value": "Bac",
        "name.familyName": "cBa",
        "meta.created": "aBc",
        "id": "aBc",
        "externalId": "aBc",
        f"{ENTERPRISE}:department": "Bca",
    }.items():
        up, down = [await client.names(sortBy=sort_by, sortOrder=order) for order in ("ascending", "descending")]
        assert "".join(up) == expected, sort_by
        assert "".join(down) == expected[::-1], sort_by
    assert [await client.names(sortBy="active", sortOrder=order) for order in ("Ascending", "descending")] == [
        ["a", "B", "c"],
        ["B", "c", "a"],
    ]


SHOWN: list[tuple[dict[str, str], set[str]]] = [
    ({"attributes": "userName"}, {"userName"}),
    ({"attributes": "USERNAME,title"}, {"userName", "title"}),
    ({"attributes": "emails.value"}, {"emails"}),
    ({"attributes": "name.familyName,name"}, {"name"}),
    ({"attributes": "nothing"}, set()),
    ({"attributes": f"{CORE}User:title"}, {"title"}),
    ({"attributes": f"{ENTERPRISE}:department"}, {ENTERPRISE}),
    ({"attributes": ENTERPRISE}, {ENTERPRISE}),
    ({"attributes": "meta.location, groups"}, {"meta", "groups"}),
    ({"excludedAttributes": "id,schemas,emails,groups,name,meta"}, {"userName", "title", "active", "displayName", ENTERPRISE}),
    (
        {"excludedAttributes": f"emails.value,meta,groups,{ENTERPRISE}:department"},
        {"userName", "title", "active", "displayName", "name", "emails", ENTERPRISE},
    ),
    ({"excludedAttributes": "nothing,emails,name,title,active,displayName,groups,meta," + ENTERPRISE}, {"userName"}),
]


async def test_answers_show_what_is_asked_for(api: Api) -> None:
    client = await provisioning(api)
    enterprise = {"department": "d", "manager": {"value": "m"}}
    user = await client.user(
        "ann",
        title="t",
        displayName="d",
        name={"familyName": "f", "givenName": "g"},
        emails=[{"value": "v", "type": "work"}],
        **{ENTERPRISE: enterprise},
    )
    await client.group("g", user["id"])
    for query, expected in SHOWN:
        one = (await client.get(f"/Users/{user['id']}", params=query)).json()
        (listed,) = (await client.get("/Users", params=query)).json()["Resources"]
        split = {name: value.split(",") for name, value in query.items()}
        (found,) = (await client.post("/.search", split | {"filter": "userName pr"})).json()["Resources"]
        assert one == listed == found
        assert one.keys() == expected | {"id", "schemas"}, query
    emails = (await client.get(f"/Users/{user['id']}", params={"attributes": "emails.value"})).json()["emails"]
    assert emails == [{"value": "v"}]
    rest = (await client.get(f"/Users/{user['id']}", params={"excludedAttributes": f"emails.value,{ENTERPRISE}:department"})).json()
    assert (rest["emails"], rest[ENTERPRISE]) == ([{"type": "work"}], {"manager": {"value": "m"}})
    both = await client.get(f"/Users/{user['id']}", params={"attributes": "userName", "excludedAttributes": "title"})
    assert refused(both) == (400, "invalidValue")
    many = await client.get("/Users", params={"attributes": ",".join(["title"] * 201)})
    assert refused(many) == (400, "invalidValue")
    short = await client.post("/Users?attributes=userName", {"schemas": [f"{CORE}User"], "userName": "bob", "title": "t"})
    assert made(short).keys() == {"id", "schemas", "userName"}
    patched = await client.patch(f"/Users/{user['id']}?attributes=title", {"op": "replace", "path": "title", "value": "new"})
    assert patched.json() == {"schemas": user["schemas"], "id": user["id"], "title": "new"}


async def test_versions_guard_against_overwriting(api: Api) -> None:
    client = await provisioning(api)
    for kind, resource, change in (
        ("Users", await client.user("ann"), {"op": "replace", "path": "title", "value": "x"}),
        ("Groups", await client.group("g"), {"op": "replace", "path": "displayName", "value": "x"}),
    ):
        path, first = f"/{kind}/{resource['id']}", resource["meta"]["version"]
        read = await client.get(path)
        assert read.headers["ETag"] == first == 'W/"1"'
        unchanged = await client.get(path, headers={"If-None-Match": f'"x", {first}'})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", first)
        changed = await client.patch(path, change, headers={"If-Match": first})
        assert (changed.status_code, changed.headers["ETag"]) == (200, 'W/"2"')
        assert changed.json()["meta"]["version"] == 'W/"2"'
        assert (await client.get(path, headers={"If-None-Match": first})).status_code == 200
        body = {name: value for name, value in resource.items() if name != "meta"}
        for answer in (
            await client.patch(path, change, headers={"If-Match": first}),
            await client.put(path, body, headers={"If-Match": f'{first}, "7"'}),
            await client.delete(path, headers={"If-Match": first}),
        ):
            assert refused(answer) == (412, None)
        assert (await client.put(path, body, headers={"If-Match": '"2"'})).status_code == 200
        assert (await client.delete(path, headers={"If-Match": "*"})).status_code == 204


async def test_addresses_are_absolute_and_lead_back(client: Scim, api: Api) -> None:
    user = await client.user("located")
    assert user["meta"]["location"] == f"{api.base_url}{PREFIX}/Users/{user['id']}"
    assert (await client.http.get(user["meta"]["location"])).json()["id"] == user["id"]
    answer = await client.post("/Groups", {"schemas": [f"{CORE}Group"], "displayName": "located"})
    assert answer.headers["Location"] == answer.json()["meta"]["location"]
    await client.delete(f"/Users/{user['id']}")
