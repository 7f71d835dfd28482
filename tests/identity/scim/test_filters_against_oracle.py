"""Random filters over random people: who is found in SQL is who an independent implementation (scim2-models) finds in memory."""

import random
from typing import Any

import pytest
from scim2_models import EnterpriseUser, ScimFilter, User

from nexusrag.identity.scim import repository
from nexusrag.identity.scim.columns import rows_of
from nexusrag.identity.scim.filters import parse_filter
from nexusrag.identity.scim.schema import USER
from nexusrag.infra.database import Database
from tests.identity.scim.client import ENTERPRISE, Scim, provisioning
from tests.support.api import Api

pytestmark = pytest.mark.slow
FILTERS = 1000
TEXTS = ("a", "A", "b", "ab", "aB", "Ba", "%", "_", "é", "É", "a b", "\\", '"', "'", "1", "ß", "日本")
TYPES = ("work", "Work", "home", "x")
SINGLE = (
    "userName",
    "displayName",
    "nickName",
    "title",
    "name.familyName",
    "name.givenName",
    "externalId",
    "locale",
    f"{ENTERPRISE}:department",
)
LISTS = ("roles", "phoneNumbers", "entitlements")
SUBS = ("value", "type", "display")


def person(rng: random.Random, number: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"userName": f"{rng.choice(TEXTS)}{number}", "active": rng.random() < 0.7}
    for name in ("displayName", "nickName", "title", "externalId", "locale"):
        if rng.random() < 0.6:
            fields[name] = rng.choice(TEXTS)
    if rng.random() < 0.6:
        fields["name"] = {name: rng.choice(TEXTS) for name in ("familyName", "givenName") if rng.random() < 0.7}
    for name in LISTS:
        held = [{sub: rng.choice(TYPES if sub == "type" else TEXTS) for sub in SUBS if rng.random() < 0.6} for _ in range(rng.randrange(4))]
        if held and rng.random() < 0.5:
            rng.choice(held)["primary"] = True
        fields[name] = held
    if rng.random() < 0.5:
        fields[ENTERPRISE] = {"department": rng.choice(TEXTS)}
    return fields


def quoted(rng: random.Random, text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if rng.random() < 0.9 else '"' + "".join(f"\\u{ord(letter):04x}" for letter in text) + '"'


def in_any_case(rng: random.Random, word: str) -> str:
    return rng.choice((word, word, word.upper(), word.lower()))


def comparison(rng: random.Random, name: str, values: tuple[str, ...] = TEXTS) -> str:
    name = in_any_case(rng, name)
    if rng.random() < 0.15:
        return f"{name} {in_any_case(rng, 'pr')}"
    op = in_any_case(rng, rng.choice(("eq", "eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le")))
    return f"{name} {op} {quoted(rng, rng.choice(values))}"


def of_value(rng: random.Random, depth: int) -> str:
    """A condition on one value of a list."""
    chance = rng.random()
    if depth and chance < 0.35:
        return f"{of_value(rng, depth - 1)} {rng.choice(('and', 'or'))} {of_value(rng, depth - 1)}"
    if depth and chance < 0.5:
        return f"not ({of_value(rng, depth - 1)})"
    if chance < 0.65:
        return f"primary {rng.choice(('eq', 'ne'))} {rng.choice(('true', 'false'))}"
    sub = rng.choice(SUBS)
    return comparison(rng, sub, TYPES if sub == "type" else TEXTS)


def of_person(rng: random.Random, depth: int) -> str:
    chance = rng.random()
    if depth and chance < 0.45:
        return f"{of_person(rng, depth - 1)} {in_any_case(rng, rng.choice(('and', 'or')))} {of_person(rng, depth - 1)}"
    if depth and chance < 0.6:
        return f"{rng.choice(('', 'not '))}({of_person(rng, depth - 1)})"
    if chance < 0.68:
        return f"active {rng.choice(('eq', 'ne'))} {rng.choice(('true', 'false'))}"
    if chance < 0.72:
        return f"{rng.choice(SINGLE)} {rng.choice(('eq', 'ne'))} null"
    name = rng.choice(LISTS)
    if chance < 0.82:
        return f"{in_any_case(rng, name)}[{of_value(rng, 2)}]"
    if chance < 0.9:
        sub = rng.choice(SUBS)
        return comparison(rng, f"{name}.{sub}", TYPES if sub == "type" else TEXTS)
    return comparison(rng, rng.choice((*SINGLE, *LISTS)))


@pytest.fixture(scope="module")
async def population(shared_api: Api) -> tuple[Scim, dict[str, Any]]:
    """A client, and the people it has made as the other implementation reads them."""
    rng, client, people = random.Random(7643), await provisioning(shared_api), {}
    for number in range(60):
        fields = person(rng, number)
        shown = await client.user(fields.pop("userName"), **fields)
        people[shown["id"]] = User[EnterpriseUser].model_validate(shown)
    return client, people


async def test_sql_finds_whom_another_implementation_finds(shared_api: Api, population: tuple[Scim, dict[str, Any]]) -> None:
    client, people = population
    rng, differing, sizes = random.Random(7644), [], []
    rows = rows_of(USER, client.base)
    async with shared_api.resources.get(Database).work(client.tenant) as work:
        for _ in range(FILTERS):
            text = of_person(rng, 4)
            expected = {key for key, held in people.items() if ScimFilter[User[EnterpriseUser]](text).match(held)}
            found = await repository.search(work, [rows], parse_filter(text), [None], descending=False, offset=0, limit=100)
            sizes.append(len(expected))
            if {key for _, key in found.page} != expected or found.total != len(expected):
                differing.append(text)
    assert differing == []
    assert sum(0 < size < len(people) for size in sizes) > FILTERS / 2, "filters that say something"
