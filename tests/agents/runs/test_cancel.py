"""Stopping a run: at once, from wherever, and to be seen by everybody."""

import asyncio

import pytest

from nexusrag.agents.runs import repository
from nexusrag.agents.runs.live import LiveRun
from nexusrag.agents.runs.registry import RunRegistry
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Work
from tests.agents.scripted import Installation, asking, check_grammar, code_of, following, installation
from tests.support.api import error_of
from tests.support.installation import Servers, http, serving
from tests.support.processes import api_process, until


async def stopped(scripted: Installation) -> None:
    """The model is being asked no more."""

    async def closed() -> bool:
        return scripted.model.open == 0

    await until(closed, within_s=5)


@pytest.fixture
def by_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """No renewal of its lease tells a process here that a run was cancelled."""
    renew = repository.renew

    async def untold(work: Work, ids: list[str], process: str) -> dict[str, bool]:
        return dict.fromkeys(await renew(work, ids, process), False)

    monkeypatch.setattr(repository, "renew", untold)


@pytest.mark.usefixtures("by_notice")
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_cancelling_stops_the_model_within_a_second(scripted: Installation, where: str) -> None:
    person, corpus = await scripted.asker()
    async with (
        serving(scripted.settings) as (_, elsewhere),
        asking(person, corpus, scripted.model.play("one ", asyncio.Event(), "never")) as stream,
    ):
        await stream.read(2)
        assert scripted.model.open == 1
        async with http(elsewhere if where == "elsewhere" else scripted.api.base_url, person.key) as client:
            answer = await client.post(f"/v1/runs/{stream.run_id}/cancel")
        assert answer.status_code == 200
        assert answer.json()["data"] == {"run_id": stream.run_id, "state": "cancelling"}
        await stopped(scripted)
        events = await stream.rest()
    check_grammar(events)
    assert code_of(events) == "RUN_CANCELLED"
    receipt = await scripted.receipt(person, stream.run_id)
    assert (receipt["state"], receipt["error_code"]) == ("cancelled", "RUN_CANCELLED")
    assert (await person.get(f"/v1/runs/{stream.run_id}/events")).text == stream.text


async def test_followers_elsewhere_see_the_end_as_well(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    async with (
        serving(scripted.settings) as (_, elsewhere),
        asking(person, corpus, scripted.model.play("one ", asyncio.Event())) as stream,
    ):
        await stream.read(2)
        async with following(person, stream.run_id, None, elsewhere) as second:
            await second.read(2)
            await person.post(f"/v1/runs/{stream.run_id}/cancel")
            await second.rest()
        await stream.rest()
    assert second.text == stream.text


async def test_cancelling_before_the_first_token(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    async with asking(person, corpus, scripted.model.play(asyncio.Event(), "never")) as stream:
        await stream.read(1)
        await person.post(f"/v1/runs/{stream.run_id}/cancel")
        events = await stream.rest()
    check_grammar(events)
    assert [event.type for event in events] == ["request.accepted", "error", "done"]
    await stopped(scripted)


async def test_a_run_that_is_cancelled_before_its_first_step_has_an_end_all_the_same(
    scripted: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, corpus = await scripted.asker()
    registry = scripted.api.resources.get(RunRegistry)
    add = registry.add

    def add_and_cancel(live: LiveRun, task: asyncio.Task[None]) -> None:
        add(live, task)
        registry.cancel_asked(live.run_id)

    monkeypatch.setattr(registry, "add", add_and_cancel)
    async with asking(person, corpus, "Who is the lighthouse keeper?") as stream:
        events = await stream.rest()
    check_grammar(events)
    assert [event.type for event in events] == ["request.accepted", "error", "done"]
    assert code_of(events) == "RUN_CANCELLED"
    assert (await scripted.receipt(person, stream.run_id))["state"] == "cancelled"


async def test_a_run_that_comes_when_the_process_is_stopping_is_ended_at_once(servers: Servers) -> None:
    """Its request was on its way when the process was told."""
    async with installation(servers) as stopping:
        person, corpus = await stopping.asker()
        await stopping.api.resources.get(RunRegistry).drain()
        events = await person.run(corpus, "Who is the lighthouse keeper?")
    check_grammar(events)
    assert code_of(events) == "RUN_INTERRUPTED"


async def test_cancelling_twice_and_too_late_is_no_error(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    async with asking(person, corpus, scripted.model.play("one ", asyncio.Event())) as stream:
        await stream.read(2)
        answers = await asyncio.gather(*(person.post(f"/v1/runs/{stream.run_id}/cancel") for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        check_grammar(await stream.rest())
    late = await person.post(f"/v1/runs/{stream.run_id}/cancel")
    assert late.json()["data"]["state"] == "cancelled"
    async with asking(person, corpus, "Who is the lighthouse keeper?") as stream:
        await stream.rest()
    late = await person.post(f"/v1/runs/{stream.run_id}/cancel")
    assert late.json()["data"]["state"] == "succeeded"
    assert (await scripted.receipt(person, stream.run_id))["state"] == "succeeded"


async def test_an_unknown_run_is_not_found(scripted: Installation) -> None:
    person = await scripted.api.person()
    for run_id in ("run_x", "x" * 200, "%00", "..%2f"):
        answer = await person.post(f"/v1/runs/{run_id}/cancel")
        assert error_of(answer)[0] in ("NOT_FOUND", "VALIDATION_ERROR", "BAD_REQUEST")
        assert answer.status_code < 500


@pytest.mark.slow
async def test_a_process_that_cannot_hear_stops_the_run_at_its_next_renewal(scripted: Installation) -> None:
    """Without the notice, the row tells."""
    person, corpus = await scripted.asker()
    admin = await scripted.api.servers.admin()
    try:
        async with asking(person, corpus, scripted.model.play("one ", asyncio.Event())) as stream:
            await stream.read(2)
            await admin.execute("update runs set cancel_requested = true where id = $1", stream.run_id)
            events = await stream.rest()
        assert code_of(events) == "RUN_CANCELLED"
        assert scripted.api.resources.get(Changes).live
    finally:
        await admin.close()


@pytest.mark.slow
@pytest.mark.usefixtures("by_notice")
async def test_cancelling_from_another_process_of_the_machine(scripted: Installation, servers: Servers) -> None:
    person, corpus = await scripted.asker()
    async with api_process(servers) as (_, elsewhere), asking(person, corpus, scripted.model.play("one ", asyncio.Event())) as stream:
        await stream.read(2)
        async with http(elsewhere, person.key) as client:
            assert (await client.post(f"/v1/runs/{stream.run_id}/cancel")).status_code == 200
        await stopped(scripted)
        assert code_of(await stream.rest()) == "RUN_CANCELLED"
