"""Whoever spends its burst lets those go first who keep to their rate: before its requests begin, and in the middle of its runs."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from nexusrag.infra import turns as module
from nexusrag.infra.turns import Turns
from tests.agents.scripted import asking, installation
from tests.billing.admission.conftest import limited_by
from tests.support.api import Api, Person
from tests.support.behind import Held
from tests.support.installation import Servers
from tests.support.processes import until

# A burst of eight reads, of which four are free; none comes back while a test runs.
SLOW = {"RL_TENANT_READ_BURST": "8", "RL_TENANT_READ_RPS": "0.001", "RL_KEY_READ_BURST": "8", "RL_KEY_READ_RPS": "0.001"}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 3600)
    monkeypatch.setattr(module, "_ASKS_S", 3600)


async def waits(api: Api, count: int) -> None:
    turns = api.resources.get(Turns)

    async def found() -> bool:
        return len(turns._beginning) + len(turns._paused) == count

    await until(found, 20)


def changing(person: Person, corpus: str) -> "asyncio.Task[int]":
    async def change() -> int:
        return (await person.patch(f"/v1/corpora/{corpus}", json={"name": "Other"})).status_code

    return asyncio.create_task(change())


async def test_requests_that_spend_the_burst_let_others_go_first(servers: Servers, patient: None) -> None:
    async with limited_by(servers, **SLOW) as api:
        greedy, other = await api.person(), await api.person()
        corpus = await other.corpus()
        async with Held(api, other.tenant) as held:
            change = changing(other, corpus)
            await held.waiting()
            for _ in range(5):  # four were gone before the fifth
                assert (await greedy.get("/v1/corpora")).status_code == 200
            asked = [asyncio.create_task(greedy.get("/v1/corpora")) for _ in range(3)]
            await waits(api, 3)
            assert (await other.get("/v1/corpora")).status_code == 200
            assert await greedy.corpus()  # a write, of which it has made none before
            assert not any(task.done() for task in asked)
        assert await change == 200
        assert [(await task).status_code for task in asked] == [200] * 3
        await waits(api, 0)


async def test_a_run_lets_others_go_first_between_its_steps(servers: Servers, patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        scripted = await stack.enter_async_context(installation(servers))
        api, spoken = scripted.api, asyncio.Event()
        greedy, corpus = await scripted.asker()
        other, theirs = await scripted.asker()
        with monkeypatch.context() as once:
            once.setattr("nexusrag.web.turn.how_far_ahead", lambda _: 500)
            question = scripted.model.play("The keeper ", spoken, "is Ada Moreau [1].")
            run = await stack.enter_async_context(asking(greedy, corpus, question))
            await run.read(2)
        async with Held(api, other.tenant) as held:
            change = changing(other, theirs)
            await held.waiting()
            spoken.set()
            await waits(api, 1)
            assert "message.final" not in [event.type for event in run.events]
        assert await change == 200
        assert [event.type for event in await run.rest()][-2:] == ["message.final", "done"]
