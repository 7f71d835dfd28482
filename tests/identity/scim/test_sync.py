"""A whole directory, synchronised twice: the second time changes nothing; and what a long list asks of the database."""

import asyncio
import os
from collections.abc import Iterable
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import event

from nexusrag.infra.database import Database
from tests.identity.scim.client import CORE, ENTERPRISE, Scim, provisioning
from tests.support.api import Api
from tests.support.behind import count, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# A whole 10,000 take two minutes and prove no more: SCIM_SYNC_PEOPLE=10000 prints the figure.
PEOPLE = int(os.environ.get("SCIM_SYNC_PEOPLE", "600"))


def directory(client: Scim) -> Iterable[dict[str, Any]]:
    for number in range(PEOPLE):
        yield {
            "schemas": [f"{CORE}User", ENTERPRISE],
            "userName": f"user{number}@x",
            "externalId": f"e{number}",
            "active": number % 50 != 0,
            "displayName": f"User {number}",
            "name": {"givenName": "User", "familyName": str(number)},
            "emails": [{"value": f"user{number}@x", "type": "work", "primary": True}],
            ENTERPRISE: {"department": f"d{number % 7}"},
        }


async def synchronised(client: Scim, people: list[dict[str, Any]]) -> float:
    """Each person looked for, and made or replaced, as an identity provider does it, eight at a time; seconds."""
    begun, waiting = monotonic(), iter(people)

    async def work() -> None:
        for person in waiting:
            found = (await client.get("/Users", params={"filter": f'userName eq "{person["userName"]}"'})).json()["Resources"]
            answer = await (client.put(f"/Users/{found[0]['id']}", person) if found else client.post("/Users", person))
            assert answer.status_code == (200 if found else 201), answer.text

    await asyncio.gather(*(work() for _ in range(8)))
    return monotonic() - begun


async def test_a_directory_synchronised_twice_is_as_after_the_first_time(api: Api) -> None:
    client = await provisioning(api)
    people = list(directory(client))
    first = await synchronised(client, people)
    state = "select id, user_name, version, updated_at, scim::text from users where tenant_id = $1 order by id"
    before = await rows(api, state, client.tenant)
    second = await synchronised(client, people)
    print(f"SCIM sync of {PEOPLE}: {first:.1f} s, again {second:.1f} s")
    assert await rows(api, state, client.tenant) == before
    assert len(before) == PEOPLE + 1
    written = "select count(*) from audit_events where tenant_id = $1 and event_type like 'identity.scim.user.%'"
    assert await count(api, written, client.tenant) == PEOPLE


async def test_a_list_of_ten_thousand_asks_a_handful_of_statements_for_a_page(api: Api) -> None:
    client = await provisioning(api)
    await rows(
        api,
        "insert into users (tenant_id, id, external_subject, user_name, email, scim, role) "
        "select $1, $1 || 'u' || n, $1 || n, 'u' || n, 'u' || n || '@x', "
        "jsonb_build_object('emails', jsonb_build_array(jsonb_build_object('value', 'u' || n || '@x', 'type', 'work'))), 'reader' "
        "from generate_series(1, 10000) n",
        client.tenant,
    )
    group = await client.group("All", *(f"{client.tenant}u{number}" for number in range(1, 10_001)))
    statements: list[str] = []
    engine = api.resources.get(Database).engine.sync_engine
    heard = lambda *args: statements.append(args[2])  # noqa: E731
    event.listen(engine, "before_cursor_execute", heard)
    try:
        for query, path in (
            ({"count": 200}, "/Users"),
            ({"count": 200, "startIndex": 9801}, "/Users"),
            ({"count": 200, "sortBy": "emails"}, "/Users"),
            ({"filter": 'emails[type eq "work" and value ew "9@x"]', "count": 200}, "/Users"),
            ({"filter": f'groups.value eq "{group["id"]}"', "count": 200}, "/Users"),
            ({"filter": 'userName eq "U77"'}, "/Users"),
            ({"excludedAttributes": "members", "filter": f'members eq "{client.tenant}u77"'}, "/Groups"),
        ):
            statements.clear()
            begun = monotonic()
            answer = (await client.get(path, params=query)).json()
            assert answer["itemsPerPage"] == min(answer["totalResults"], 200) > 0, query
            assert len([one for one in statements if "audit_events" not in one]) <= 5, statements
            assert monotonic() - begun < 10, query
    finally:
        event.remove(engine, "before_cursor_execute", heard)
