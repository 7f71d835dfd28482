"""What the matrix of single ids (tests/contract/test_matrix.py) does not reach: words, streams and sessions, with and without each wall."""

import json
from collections.abc import AsyncIterator

import pytest

from nexusrag.kernel.ids import new_id
from tests.contract.things import CANARY, MADE_UP, QUESTION, Stock
from tests.support.api import Api, parse_events
from tests.support.installation import Servers
from tests.support.walls import walled

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["both walls", "no criterion", "no row-level security"])
async def walls(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Api]:
    async with walled(servers, request.param) as api:
        yield api


@pytest.fixture(scope="module")
async def victim(walls: Api) -> Stock:
    stock = Stock(walls, await walls.person("editor"))
    for kind in ("corpus", "document", "run"):
        await stock.make(kind)
    return stock


async def test_ids_inside_a_search_or_a_stream_find_nothing(walls: Api, victim: Stock) -> None:
    intruder = await walls.person()
    own = await intruder.corpus()
    await intruder.text(own, "Nothing of interest is buried here.")
    for ids in (victim.ids, MADE_UP):
        assert await intruder.search(own, f"treasure {CANARY}", document_ids=[ids["document"]]) == []
    answers = []
    for ids in (victim.ids, MADE_UP):
        for path, body in ((f"/v1/runs/{ids['run']}/events", None), ("/v1/run", {"session_id": "s", "corpus_id": own, "message": "x"})):
            headers = {"Last-Event-ID": f"{ids['run']}.0", "X-Request-Id": "probe"}
            answer = await intruder.client.request("POST" if body else "GET", path, json=body, headers=headers)
            assert [event.type for event in parse_events(answer.text)] == ["resume.unsupported", "done"]
            answers.append(answer.content)
    assert len(set(answers)) == 1


async def test_the_same_ids_in_two_tenants_never_mix(walls: Api) -> None:
    people = [await walls.person(), await walls.person()]
    for person in people:
        await person.corpus(id="shared", visibility="tenant")
        await person.text("shared", f"The password of {person.tenant} is secret.", document_id="same")
    for person in people:
        passages = await person.search("shared", "what is the password?")
        assert [passage["text"] for passage in passages] == [f"The password of {person.tenant} is secret."]
        (final,) = [event for event in await person.run("shared", "What is the password?") if event.type == "message.final"]
        other = next(one.tenant for one in people if one is not person)
        assert person.tenant in json.dumps(final.data)
        assert other not in json.dumps(final.data)
    await people[0].delete("/v1/documents/same")
    assert len(await people[1].search("shared", "what is the password?")) == 1
    assert (await people[0].delete("/v1/corpora/shared")).status_code == 202
    assert (await people[1].get("/v1/corpora/shared")).status_code == 200


async def test_a_session_of_another_tenant_is_refused(walls: Api, victim: Stock) -> None:
    other = await walls.person()
    body = {"session_id": victim.ids["session"], "corpus_id": await other.corpus(), "message": QUESTION}
    answer = await other.post("/v1/run", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "SESSION_TENANT_MISMATCH")
    body["session_id"] = new_id("s")
    assert (await other.post("/v1/run", json=body)).status_code == 200
