"""Every route, every place in which an id can stand, and everyone who may not know what it names: they learn nothing.

The answer to somebody else's real id is, byte for byte, that to an id that was made up. `matrix.ROUTES` has a line for each route.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest

from nexusrag.kernel.actions import POLICY_TERMS, Resource, Role
from nexusrag.kernel.principal import Credential
from tests.contract.matrix import NO_IDS, ROUTES, entry
from tests.contract.probes import Place, cursor_of, places, probe
from tests.contract.table import known_routes
from tests.contract.things import CANARY, PERSONAL, QUESTION, Stock, provisioning
from tests.support.api import Api, Person
from tests.support.behind import rows
from tests.support.installation import Servers
from tests.support.walls import walled

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
# Who manages permissions is told that a document exists, and reads none of it.
_MANAGING = frozenset({Resource.PERMISSION, Resource.POLICY})
# What changes by itself, or says that somebody tried.
_RESTLESS = frozenset({"audit_events", "run_events", "usage_periods", "sla_measurements"})
_LOOKED_AT = "evaluated_at"  # the column that workers write whenever they have looked


def test_every_route_has_a_line_and_every_line_a_route(api: Api) -> None:
    routes = known_routes(api)
    assert {str(route) for route in routes if not route.legacy} == set(ROUTES)


def test_every_place_of_an_id_has_one_in_the_matrix(api: Api) -> None:
    """Whatever a route takes as text is an id unless NO_IDS says that it is none."""
    document: Any = api.app.openapi()
    for route in known_routes(api):
        if route.legacy:
            continue
        described = document["paths"][route.path][route.method.lower()]
        sent = entry(route)
        held = {_without_numbers(at) for at, _ in sent.places(route)}
        for place in taken(described, document):
            name = place.partition(":")[2].removesuffix("[]").rpartition(".")[2]
            if place == "body:.*":  # a body that no schema describes: the line gives one
                assert sent.json is not None, route
            elif not {name, place.partition(":")[2]} & NO_IDS and not any(one.startswith(place) for one in held):
                pytest.fail(f"{route}: is {place} an id? Give it one in tests/contract/matrix.py, or its name a place in NO_IDS.")


def _without_numbers(place: str) -> str:
    return "".join("[]" if part.startswith("[") else part for part in _split(place))


def _split(place: str) -> list[str]:
    return place.replace("[", "\0[").replace("]", "]\0").split("\0")


def taken(described: Any, document: Any) -> Iterator[str]:
    """Every parameter and field of a described route that takes text."""
    for parameter in described.get("parameters", ()):
        yield from _texts(parameter["schema"], f"{parameter['in']}:{parameter['name']}", document, ())
    for content in described.get("requestBody", {}).get("content", {}).values():
        yield from _texts(content["schema"], "body:", document, ())


def _texts(schema: Any, place: str, document: Any, within: tuple[str, ...]) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in within:
            yield from _texts(document["components"]["schemas"][name], place, document, (*within, name))
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _texts(choice, place, document, within)
    for name, below in schema.get("properties", {}).items():
        yield from _texts(below, f"{place}{'' if place.endswith(':') else '.'}{name}", document, within)
    if schema.get("type") == "object" and schema.get("additionalProperties", True) and "properties" not in schema:
        yield f"{place}.*"
    if schema.get("type") == "array":
        yield from _texts(schema.get("items", {}), f"{place}[]", document, within)
    if schema.get("type") == "string" and not {"enum", "const"} & set(schema):
        yield place


@pytest.fixture(scope="module", params=["both walls", "no criterion", "no row-level security", "no wall"])
async def walls(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Api]:
    async with walled(servers, request.param) as api:
        yield api


@pytest.fixture(scope="module")
async def victim(walls: Api) -> Stock:
    """Things of every kind, of a tenant in which nobody but their maker works."""
    return await Stock(walls, await walls.person("admin")).fill()


People = dict[str, Person]


async def team(api: Api, tenant: str | None = None) -> People:
    """A person of each role and a provisioning client of one tenant, and somebody without any credential."""
    people = {"admin": await api.person("admin", tenant)}
    tenant = people["admin"].tenant
    people |= {role: await api.person(role, tenant) for role in ("editor", "reader")}
    stranger = Person(api.anonymous(), {"tenant_id": "", "user_id": "", "key_id": "", "api_key": ""})
    return people | {"scim": await provisioning(api, tenant), "stranger": stranger}


def listened_to(place: Place, people: People) -> list[Person]:
    """Those whom the route listens to at all."""
    gate = place.route.gate
    if gate.is_public:
        return [people["stranger"]] if "stranger" in people else []
    if gate.credentials == {Credential.SCIM}:
        return [people["scim"]] if "scim" in people else []
    return [people[role] for role in Role if role in people]


async def learned(people: People, own: Stock, victim: Stock, concerned: Iterable[Place], least: int = 30) -> list[str]:
    """What `people` learn about things of `victim`, after at least so many probes."""
    found, probed = [], 0
    for place in concerned:
        if place.at in place.sent.tells:
            continue
        for person in listened_to(place, people):
            told = await probe(person, own, place, await real_one(place, victim))
            found += [told] if told else []
            probed += 1
    assert probed >= least
    return found


async def real_one(place: Place, victim: Stock) -> str:
    if place.kind == "cursor":
        return await cursor_of(victim.owner, place, victim)
    if place.at not in place.sent.taken:
        return victim.ids[place.kind]
    # A third tenant's: the prober has one of the same id from then on, which must not hide the victim's from later probes.
    third = Stock(victim.api, await victim.api.person("admin"))
    await third.make("corpus")
    return await third.make(place.kind)


async def state(victim: Stock) -> dict[str, Any]:
    """All that is kept of the tenant."""
    tables = await rows(victim.api, "select relname from pg_class where relkind in ('r', 'p') and not relispartition and exists ("
                        "select 1 from pg_attribute a where a.attrelid = pg_class.oid and a.attname = 'tenant_id')")  # fmt: skip
    names = {table["relname"] for table in tables} - _RESTLESS
    assert len(names) > 20
    return {
        name: await rows(
            victim.api,
            f"select to_jsonb(t) - $2::text as kept from {name} t where tenant_id = $1 order by t::text",
            victim.owner.tenant,
            _LOOKED_AT,
        )
        for name in names
    }


async def test_another_tenant_learns_nothing_and_changes_nothing(walls: Api, victim: Stock, request: pytest.FixtureRequest) -> None:
    people = await team(walls)
    if request.node.callspec.params["walls"] != "both walls":  # which do not know of roles
        del people["editor"], people["reader"]
    own = await Stock(walls, people["admin"], "tenant").fill()
    before = await state(victim)
    told = await learned(people, own, victim, places(known_routes(walls)))
    assert not told, "\n".join(told)
    assert await state(victim) == before


async def test_a_colleague_learns_nothing_of_what_is_somebody_elses(api: Api) -> None:
    """Corpora, people and the like are the tenant's; what is in a corpus, and who asked what, is not."""
    victim = await Stock(api, await api.person("admin")).fill()
    people = await team(api, victim.owner.tenant)
    personal = [
        place
        for place in places(known_routes(api))
        if place.kind in PERSONAL and place.at not in place.sent.taken and POLICY_TERMS[place.route.gate.action][0] not in _MANAGING
    ]
    for told in await learned(people, victim, victim, personal):
        assert "AUTHZ_DENIED" in told, told
    assert await learned({"editor": people["editor"], "reader": people["reader"]}, victim, victim, personal) == []
    for role in Role:
        colleague, corpus = people[role], victim.ids["corpus"]
        assert await colleague.search(corpus, QUESTION) == []
        assert (await colleague.get("/v1/documents")).json()["data"] == []
        console = (await colleague.get("/v1/ui/documents", params={"q": victim.ids["document"]})).json()["data"]
        assert (console["items"], console["facets"]) == ([], {"status": []})
        assert not any(CANARY in event.raw for event in await colleague.run(corpus, QUESTION))


async def test_a_role_that_is_too_low_learns_nothing_of_anything(api: Api) -> None:
    victim = await Stock(api, await api.person("admin")).fill()
    people = await team(api, victim.owner.tenant)
    for role in (Role.READER, Role.EDITOR):
        others = [place for place in places(known_routes(api)) if place.kind != "tenant" and place.route.least_role is not None]
        above = [place for place in others if place.route.least_role.rank > role.rank]
        told = await learned({role: people[role]}, victim, victim, above)
        assert not told, "\n".join(told)


async def test_whose_thing_it_is_sees_a_difference_everywhere(api: Api) -> None:
    """Else a probe would find the same refusal for a reason that has nothing to do with its id."""
    victim = await Stock(api, await api.person("admin")).fill()
    operator, client = await api.operator(), await provisioning(api, victim.owner.tenant)
    seen = []
    for place in places(known_routes(api)):
        if place.at in (*place.sent.tells, *place.sent.blind, *place.sent.taken) or (
            place.at == "query:tenant_id" and place.route.method != "GET"
        ):
            continue
        gate = place.route.gate
        operated = gate.operator or (gate.reach == "operators" and place.kind == "tenant")
        person = client if gate.credentials == {Credential.SCIM} else operator if operated else victim.owner
        if gate.is_public or gate.credentials.isdisjoint({Credential.API_KEY, Credential.SCIM}):
            continue
        own = victim.copy()
        if place.kind == "cursor":
            real = await cursor_of(person, place, own)
        else:
            real = own.ids[place.kind] if place.route.method == "GET" else await own.make(place.kind)
        if await probe(person, own, place, real) is None:
            seen.append(str(place))
    assert not seen, "\n".join(seen)
