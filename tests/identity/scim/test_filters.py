"""Filters through the whole service: who is found, and what is refused."""

from time import monotonic
from typing import Any

import pytest

from tests.identity.scim.client import CORE, ENTERPRISE, Scim, provisioning, refused
from tests.support.api import Api
from tests.support.behind import rows

ANN: dict[str, Any] = {
    "externalId": "E-1",
    "displayName": "Ann O'Hara",
    "title": "100% sure",
    "nickName": "a_b",
    "active": True,
    "name": {"familyName": "O'Hara", "givenName": "Ann"},
    "emails": [{"type": "work", "value": "ann@x.example", "primary": True}, {"type": "home", "value": "ann@home.example"}],
    ENTERPRISE: {"department": "Sales", "employeeNumber": "7", "manager": {"value": "usr_boss"}},
}
BOB: dict[str, Any] = {
    "externalId": "e-1",
    "displayName": "Bob",
    "title": "abc",
    "nickName": "axb",
    "active": False,
    "name": {"familyName": "Builder"},
    "emails": [{"type": "home", "value": "bob@x.example"}, {"type": "work", "value": "bob@elsewhere.example"}],
    "phoneNumbers": [{"value": "+49 30 1", "type": "work"}],
}
CYD: dict[str, Any] = {"displayName": 'Çyd \\ "x"', "title": "", "timezone": "Europe/Berlin"}

FOUND: list[tuple[str, str]] = [
    # equality, and case as each attribute has it
    ('userName eq "ann@x.example"', "a"),
    ('USERNAME EQ "ANN@X.Example"', "a"),
    ('username Eq "nobody"', ""),
    ('externalId eq "E-1"', "a"),
    ('externalId eq "e-1"', "b"),
    ('externalId ne "E-1"', "bc"),
    ('id eq "E-1"', ""),
    ('displayName eq "Çyd \\\\ \\"x\\""', "c"),
    ('displayName eq "çYD \\\\ \\"X\\""', "c"),
    ('displayName eq "C\u0327yd \\\\ \\"x\\""', "c"),
    ('userName ne "ann@x.example"', "bc"),
    ('title ne "abc"', "ac"),
    ('nickName ne "a_b"', "bc"),
    # presence
    ("title pr", "ab"),
    ("not (title pr)", "c"),
    ("name pr", "ab"),
    ("name.givenName pr", "a"),
    ("emails pr", "ab"),
    ("not (emails pr)", "c"),
    ("phoneNumbers.value pr", "b"),
    ("phoneNumbers.display pr", ""),
    (f"{ENTERPRISE} pr", "a"),
    ("active pr", "abc"),
    ("id pr", "abc"),
    ("schemas pr", "abc"),
    ("groups pr", ""),
    ("meta pr", "abc"),
    ("nickName eq null", "c"),
    ("nickName ne null", "ab"),
    ("emails eq null", "c"),
    # parts of texts, in which nothing is a wildcard
    ('userName co "X.EX"', "ab"),
    ('userName sw "ann"', "a"),
    ('userName ew "elsewhere"', "c"),
    ('userName co ""', "abc"),
    ('title co "%"', "a"),
    ('title sw "_"', ""),
    ('nickName co "_"', "a"),
    ('nickName eq "a%b"', ""),
    ('displayName co "\\\\"', "c"),
    ('displayName co "\'"', "a"),
    ('userName eq "\' OR 1=1 --"', ""),
    ('userName eq "x\\u0027; drop table users; --"', ""),
    ('title co "100%"', "a"),
    ('displayName ew "\\"x\\""', "c"),
    # order
    ('userName gt "b"', "bc"),
    ('userName ge "bob@x.example"', "bc"),
    ('userName lt "BOB"', "a"),
    ('userName le "ann@x.example"', "a"),
    ('meta.created gt "2020-01-01T00:00:00Z"', "abc"),
    ('meta.created lt "2020-01-01T00:00:00+02:00"', ""),
    ('meta.lastModified ge "2020-01-01"', "abc"),
    ('meta.lastModified ne "2020-01-01T00:00:00Z"', "abc"),
    # truth
    ("active eq true", "ac"),
    ("active eq False", "b"),
    ('active eq "True"', "ac"),
    ("active ne true", "b"),
    ("not (active eq true)", "b"),
    # lists, whose default is `value`
    ('emails eq "ann@home.example"', "a"),
    ('emails.value eq "ANN@HOME.EXAMPLE"', "a"),
    ('emails co "x.example"', "ab"),
    ('emails.type eq "work"', "ab"),
    ('emails.value ne "ann@home.example"', "bc"),
    ("emails.primary eq true", "a"),
    ('emails.type eq "work" and emails.value co "x.example"', "ab"),
    ('emails[type eq "work" and value co "x.example"]', "a"),
    ('emails[type eq "WORK" and value co "elsewhere"]', "b"),
    ('emails[not (type eq "home")]', "ab"),
    ('emails[type eq "home" and not (value sw "ann")]', "b"),
    ("emails[primary eq true]", "a"),
    ('emails[primary ne true and type eq "work"]', "b"),
    ('not (emails[type eq "work"])', "c"),
    ("emails[display pr]", ""),
    ('emails[type eq "work"].value eq "ann@x.example"', "a"),
    ('emails[type eq "work"].value pr', "ab"),
    ('EMAILS[TYPE EQ "work" AND (VALUE SW "bob" OR VALUE SW "ann")]', "ab"),
    (f'schemas eq "{CORE}User"', "abc"),
    (f'schemas[value eq "{ENTERPRISE}"]', "a"),
    ('schemas co "enterprise"', "a"),
    # names under their URN, and extensions
    (f'{CORE}User:userName sw "bob"', "b"),
    (f'{CORE.upper()}USER:NAME.FAMILYNAME eq "builder"', "b"),
    (f'{ENTERPRISE}:department eq "sales"', "a"),
    (f'{ENTERPRISE}:manager.value eq "usr_boss"', "a"),
    (f'{ENTERPRISE}:manager eq "usr_boss"', "a"),
    (f'{ENTERPRISE}:manager.value eq "USR_BOSS"', ""),
    (f"not ({ENTERPRISE}:department pr)", "bc"),
    # what is known of the resource itself
    ('meta.resourceType eq "User"', "abc"),
    ('meta.resourceType eq "Group"', ""),
    ('meta.version eq "W/\\"1\\""', "abc"),
    # logic: not before and before or
    ('userName sw "ann" or userName sw "bob" and active eq true', "a"),
    ('(userName sw "ann" or userName sw "bob") and active eq true', "a"),
    ('not (userName sw "ann") and not (userName sw "bob")', "c"),
    ('not (userName sw "ann" or userName sw "bob")', "c"),
    ('not (not (userName sw "ann"))', "a"),
    ("((((((active eq true))))))", "ac"),
    ('NOT(userName sw "ann")OR(active eq true)', "abc"),
    ('  userName   sw\t"ann"  ', "a"),
    (" and ".join(["active pr"] * 200), "abc"),
]

REFUSED = [
    "",
    "userName",
    "userName eq",
    'eq "x"',
    'userName eq "x',
    "userName eq x",
    "userName eq 'x'",
    'userName = "x"',
    'userName eq "x" and',
    'userName eq "x" or or userName pr',
    '(userName eq "x"',
    'userName eq "x")',
    'userName eq "x" userName pr',
    'not userName eq "x"',
    "not",
    "()",
    "[]",
    "emails[",
    'emails[type eq "work"',
    'emails[type eq "work")',
    "emails[]",
    'emails[type[value pr] eq "x"]',
    'emails[type eq "work"].',
    'emails[type eq "work"].value.x pr',
    'name[familyName eq "x"]',
    'userName[value eq "x"]',
    'nothing eq "x"',
    "nothing pr",
    "name.nothing pr",
    "emails.nothing pr",
    'emails[nothing eq "x"]',
    'emails.value.x eq "y"',
    "urn:example:User:x pr",
    f"{ENTERPRISE}:nothing pr",
    'password eq "x"',
    "password pr",
    'name eq "x"',
    'meta eq "x"',
    'addresses eq "x"',
    "userName eq 5",
    "userName eq true",
    'active eq "maybe"',
    "active eq 1",
    "active gt true",
    'active co "t"',
    "userName gt null",
    'meta.created eq "yesterday"',
    'meta.created co "2020"',
    'meta.created gt "9999-99-99"',
    'meta.created gt "0001-01-01T00:00:00+23:00"',
    'x509Certificates.value gt "a"',
    'userName eq "\\u0000"',
    'userName eq "\\ud800"',
    'userName eq "\\x"',
    'userName eq "a\nb"',
    'userName eq "\u0130x"',
    "(" * 33 + "userName pr" + ")" * 33,
    "(" * 500 + "userName pr" + ")" * 500,
    "not (" * 500,
    " and ".join(["active pr"] * 201),
    'userName eq "' + "x" * 8192 + '"',
    "userName eq 1e999",
    "userName eq --1",
    "userName eq \u00a0",
]


@pytest.fixture(scope="module")
async def client(shared_api: Api) -> Scim:
    client = await provisioning(shared_api)
    await client.user("ann@x.example", **ANN)
    await client.user("bob@x.example", **BOB)
    await client.user("cyd.elsewhere", **CYD)
    return client


@pytest.mark.parametrize(("text", "expected"), FOUND)
async def test_a_filter_finds(client: Scim, text: str, expected: str) -> None:
    assert "".join(name[0] for name in await client.names(filter=text, sortBy="userName")) == expected


@pytest.mark.parametrize("text", REFUSED)
async def test_a_filter_is_refused(client: Scim, text: str) -> None:
    begun = monotonic()
    answers = [await client.post("/Users/.search", {"filter": text or " "})]
    if text.isascii() and "\n" not in text:
        answers.append(await client.get("/Users", params={"filter": text or " "}))
    assert [refused(answer) for answer in answers] == [(400, "invalidFilter")] * len(answers)
    assert monotonic() - begun < 5


async def test_a_filter_of_100_kilobytes_is_refused_at_once(client: Scim) -> None:
    begun = monotonic()
    assert refused(await client.post("/Users/.search", {"filter": 'userName eq "x" or ' * 6000})) == (400, "invalidFilter")
    assert monotonic() - begun < 5


async def test_groups_and_their_members_are_filtered(client: Scim) -> None:
    ann, bob = [(await client.get("/Users", params={"filter": f'userName sw "{name}"'})).json()["Resources"][0] for name in ("ann", "bob")]
    red = await client.group("Red", ann["id"], bob["id"], externalId="r")
    blue = await client.group("Blue", ann["id"])
    for text, expected in (
        ('displayName eq "RED"', ["Red"]),
        ('members eq "{bob}"', ["Red"]),
        ('members.value eq "{ann}"', ["Blue", "Red"]),
        ('members[value eq "{bob}"]', ["Red"]),
        ('not (members[value eq "{bob}"])', ["Blue"]),
        ('members[type eq "User"]', ["Blue", "Red"]),
        ('id eq "{red}" and members eq "{bob}"', ["Red"]),
        ('id eq "{blue}" and members eq "{bob}"', []),
        ('externalId eq "r"', ["Red"]),
        ('members.$ref ew "/Users/{bob}"', ["Red"]),
        ("members pr", ["Blue", "Red"]),
        ('members eq "\' or true --"', []),
        ('meta.resourceType eq "Group"', ["Blue", "Red"]),
        ('displayName gt "c"', ["Red"]),
    ):
        for name, resource in (("ann", ann), ("bob", bob), ("red", red), ("blue", blue)):
            text = text.replace(f"{{{name}}}", resource["id"])
        assert await client.names("Groups", filter=text, sortBy="displayName") == expected, text
    assert await client.names(filter=f'groups.value eq "{red["id"]}"', sortBy="userName") == ["ann@x.example", "bob@x.example"]
    assert await client.names(filter='groups[display eq "blue" and type eq "direct"]') == ["ann@x.example"]
    assert refused(await client.get("/Groups", params={"filter": "userName pr"})) == (400, "invalidFilter")


async def test_one_search_finds_people_and_groups(api: Api) -> None:
    client = await provisioning(api)
    ann = await client.user("ann", displayName="M")
    for name in ("Zeta", "alpha"):
        await client.group(name, ann["id"])
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"filter": "displayName pr", "sortBy": "displayName"}, ["alpha", "M", "Zeta"]),
        ({"filter": "displayName pr", "sortBy": "displayName", "sortOrder": "descending", "startIndex": 2}, ["M", "alpha"]),
        ({"sortBy": "userName", "count": 1}, ["M"]),
        ({"filter": 'userName eq "ann"'}, ["M"]),
        ({"filter": 'not (userName eq "ann")', "sortBy": "displayName"}, ["alpha", "Zeta"]),
        ({"filter": f'members eq "{ann["id"]}"', "sortBy": "displayName"}, ["alpha", "Zeta"]),
        ({"filter": 'meta.resourceType eq "Group"', "sortBy": "meta.created", "sortOrder": "descending"}, ["alpha", "Zeta"]),
        ({"filter": 'emails[type eq "work"]'}, []),
        ({"filter": 'userName ne "x"', "sortBy": "active"}, ["M", "Zeta", "alpha"]),
        ({"filter": "userName eq null", "sortBy": "displayName"}, ["alpha", "Zeta"]),
    ]
    for query, expected in cases:
        answer = await client.post("/.search", {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], **query})
        assert [one["displayName"] for one in answer.json()["Resources"]] == expected, query
        kinds = {one["meta"]["resourceType"]: one["schemas"][0] for one in answer.json()["Resources"]}
        assert all(schema.endswith(kind) for kind, schema in kinds.items())
    assert refused(await client.post("/.search", {"filter": "nothing pr"})) == (400, "invalidFilter")
    assert refused(await client.post("/.search", {"sortBy": "nothing"})) == (400, "invalidValue")


async def test_a_service_is_nobody_to_provision(client: Scim) -> None:
    assert client.admin.user_id not in {one["id"] for one in (await client.get("/Users")).json()["Resources"]}
    assert await client.names(filter=f'id eq "{client.admin.user_id}"') == []
    assert (await client.get(f"/Users/{client.admin.user_id}")).status_code == 404


async def test_an_account_of_our_own_is_found_by_its_address(api: Api) -> None:
    client = await provisioning(api)
    await rows(
        api,
        "insert into users (tenant_id, id, external_subject, email, role) values ($1, $2, $2, 'Local@x.example', 'reader')",
        client.tenant,
        f"usr_local_{client.tenant}",
    )
    for text in ('userName eq "local@X.example"', 'emails.value eq "local@x.example"', 'emails[primary eq true and value sw "local"]'):
        (found,) = (await client.get("/Users", params={"filter": text})).json()["Resources"]
        assert (found["userName"], found["emails"]) == ("Local@x.example", [{"value": "Local@x.example", "primary": True}])
