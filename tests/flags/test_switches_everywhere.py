"""A switch that is thrown in one process is felt in another, and in its workers, within a second."""

from collections.abc import AsyncIterator

import httpx
import pytest

from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person, error_of
from tests.support.installation import Servers
from tests.support.processes import api_process, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SWITCHES, FREEZE = "/v1/admin/rollouts/killswitches", "/v1/admin/ops/actions/freeze-writes"
OFF, FROZEN = ("FEATURE_TEMPORARILY_DISABLED", 503), ("WRITE_FROZEN", 503)


@pytest.fixture(scope="module")
async def pair(servers: Servers, shared_api: Api) -> AsyncIterator[tuple[Person, Person, Person]]:
    """An operator at one process, the same one at another, and somebody else at that one."""
    operator, person = await shared_api.operator(), await shared_api.person()
    async with (
        api_process(servers) as (_, one), api_process(servers) as (_, other),
        operator.at(one) as here, person.at(other) as there, operator.at(other) as back,
    ):  # fmt: skip
        yield here, there, back


async def met(answer: httpx.Response) -> tuple[str, int]:
    return ("", answer.status_code) if answer.status_code < 400 else error_of(answer)


async def felt(there: Person, path: str, body: dict[str, object], expected: tuple[str, int]) -> None:
    async def so() -> bool:
        return await met(await there.post(path, json=body)) == expected

    await until(so, 5, 0.01)


async def test_a_switch_acts_in_the_other_process(pair: tuple[Person, Person, Person]) -> None:
    here, there, _ = pair
    corpus = await there.corpus()
    run: dict[str, object] = {"session_id": new_id("s"), "corpus_id": corpus, "message": "Who?"}
    text: dict[str, object] = {"corpus_id": corpus, "text": "Words."}
    for switch, path, body, served in (("kill.run", "/v1/run", run, 200), ("kill.ingest", "/v1/documents/text", text, 202)):
        assert await met(await there.post(path, json=body)) == ("", served)
        for on, expected in ((True, OFF), (False, ("", served))):
            assert (await here.patch(SWITCHES, json={"kill_switches": {switch: on}})).status_code == 200
            await felt(there, path, body, expected)


async def test_a_freeze_acts_in_the_other_process_and_is_lifted_there(pair: tuple[Person, Person, Person]) -> None:
    here, there, back = pair
    body: dict[str, object] = {"name": "Corpus"}
    assert (await here.post(FREEZE, headers={"Idempotency-Key": new_id("k")})).status_code == 200
    await felt(there, "/v1/corpora", body, FROZEN)
    lifted = await back.post(FREEZE, json={"freeze": False}, headers={"Idempotency-Key": new_id("k")})
    assert (lifted.status_code, lifted.json()["data"]["status"]) == (200, "lifted")
    await felt(there, "/v1/corpora", body, ("", 201))
