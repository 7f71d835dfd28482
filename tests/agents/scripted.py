"""A model that does as a test says, and an installation that asks it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from nexusrag.agents.runs.live import MAX_SEQ
from nexusrag.inference.gateway.facade import Gateway
from nexusrag.inference.slots.facade import ModelSlots
from nexusrag.kernel.ids import new_id
from nexusrag.providers.llm.port import Delta, Prompt, Usage, estimated_usage
from nexusrag.settings import Settings
from tests.support.api import Api, Event, Person, parse_events
from tests.support.installation import Servers, http, serving
from tests.support.processes import until

# Said, waited for (seconds or until set), or raised.
Step = str | float | asyncio.Event | BaseException

FACTS = (
    "The lighthouse keeper is called Ada Moreau. She came to the island in 1931 with a cat and four hundred books. "
    "The lamp burns whale oil, which the ferry brings on Tuesdays. The fog horn was built by Tobias Lund in 1902."
)


class ScriptedModel:
    """Plays the script whose name stands in the question, else a short answer that cites the first passage."""

    name = "scripted"
    context_tokens = 16_000

    def __init__(self) -> None:
        self.scripts: dict[str, Sequence[Step]] = {}
        self.prompts: list[Prompt] = []
        self.open = 0

    def play(self, *steps: Step) -> str:
        """A question to which the model will answer with these steps."""
        name = new_id("script")
        self.scripts[name] = steps
        return f"What does the lighthouse keeper say, {name}?"

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
        steps = next((steps for name, steps in self.scripts.items() if name in prompt.question), ("The keeper is Ada Moreau ", "[1]."))
        self.prompts.append(prompt)
        self.open += 1
        written = 0
        try:
            for step in steps:
                match step:
                    case str():
                        written += len(step)
                        yield Delta(step)
                    case asyncio.Event():
                        await step.wait()
                    case BaseException():
                        raise step
                    case _:
                        await asyncio.sleep(step)
            yield estimated_usage(prompt, written)
        finally:
            self.open -= 1

    async def close(self) -> None:
        """Holds nothing."""


class Installation:
    """An API with a scripted model. Documents are ingested inside their requests."""

    def __init__(self, api: Api, model: ScriptedModel, settings: Settings) -> None:
        self.api = api
        self.model = model
        self.settings = settings

    async def asker(self, text: str = FACTS, **fields: Any) -> tuple[Person, str]:
        """Somebody of a new tenant, and a corpus with one document that they own."""
        person = await self.api.person(**fields)
        corpus = await person.corpus()
        await person.text(corpus, text)
        return person, corpus

    async def receipt(self, person: Person, run_id: str) -> dict[str, Any]:
        answer = await person.get(f"/v1/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    async def ended(self, person: Person, run_id: str, within_s: float = 20) -> dict[str, Any]:
        """The receipt, once the run is over."""

        async def over() -> dict[str, Any] | None:
            receipt = await self.receipt(person, run_id)
            return receipt if receipt["state"] != "running" else None

        found = await until(over, within_s)
        assert found is not None
        return found


@asynccontextmanager
async def installation(servers: Servers, **env: str) -> AsyncIterator[Installation]:
    """An API process in this one."""
    settings = servers.with_env(**{"INGEST_EXECUTION_MODE": "inline", **env})
    async with serving(settings) as (app, base_url):
        model = ScriptedModel()
        app.state.resources.put(Gateway, Gateway(model, settings, app.state.resources.get(ModelSlots)))
        api = Api(servers, app, base_url)
        try:
            yield Installation(api, model, settings)
        finally:
            await api.close()


class Stream:
    """A run's answer, read piece by piece."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.text = ""
        self._pieces = response.aiter_text()

    @property
    def events(self) -> list[Event]:
        """The whole events that have come so far."""
        whole, _, _ = self.text.rpartition("\n\n")
        return parse_events(whole + "\n\n") if whole else []

    @property
    def run_id(self) -> str:
        return str(self.events[0].data["data"]["run_id"])

    async def read(self, events: int) -> list[Event]:
        """The first `events` events, as soon as they are there."""
        async with asyncio.timeout(20):
            while len(self.events) < events:
                self.text += await anext(self._pieces)
        return self.events[:events]

    async def rest(self) -> list[Event]:
        """All events."""
        async with asyncio.timeout(30):
            async for piece in self._pieces:
                self.text += piece
        return self.events


@asynccontextmanager
async def asking(person: Person, corpus: str, question: str, **fields: Any) -> AsyncIterator[Stream]:
    """An open stream on a connection of its own; leaving hangs up."""
    headers = fields.pop("headers", {})
    body = {"session_id": fields.pop("session_id", new_id("s")), "corpus_id": corpus, "message": question, **fields}
    async with (
        http(str(person.client.base_url), person.key) as client,
        client.stream("POST", "/v1/run", json=body, headers=headers) as response,
    ):
        yield Stream(response)


@asynccontextmanager
async def following(person: Person, run_id: str, after: str | None, base_url: str | None = None) -> AsyncIterator[Stream]:
    """A reader that comes back, here or at another process."""
    headers = {} if after is None else {"Last-Event-ID": after}
    async with (
        http(base_url or str(person.client.base_url), person.key) as client,
        client.stream("GET", f"/v1/runs/{run_id}/events", headers=headers) as response,
    ):
        yield Stream(response)


def check_grammar(events: list[Event], request_id: str | None = None, *, closed_by_reaper: bool = False) -> None:
    """What holds for every stream of a run, whatever happened in it. Numbers rise by one, but for an end that the reaper wrote."""
    types = [event.type for event in events]
    assert types[0] == "request.accepted"
    assert types[-1] == "done"
    assert types.count("done") == 1
    assert types.count("request.accepted") == 1
    spoken = [kind for kind in types[1:-1] if kind != "heartbeat"]
    deltas = "".join(event.data["data"]["delta"] for event in events if event.type == "token.delta")
    if "message.final" in spoken:
        assert spoken.count("message.final") == 1
        after = spoken[spoken.index("message.final") + 1 :]
        assert after in ([], ["audio.ready"], ["audio.error"], ["error"])
        final = next(event for event in events if event.type == "message.final").data["data"]
        assert final["text"] == deltas
    else:
        assert spoken[-1] == "error"
        assert spoken.count("error") == 1
    assert set(spoken) <= {"debug.retrieval", "token.delta", "message.final", "audio.ready", "audio.error", "error"}
    run_id = events[0].data["data"]["run_id"]
    numbers = [event.data["seq"] for event in events]
    if closed_by_reaper:
        assert numbers == [*range(1, len(events) - 1), MAX_SEQ - 1, MAX_SEQ]
    else:
        assert numbers == list(range(1, len(events) + 1))
    assert [event.id for event in events] == [f"{run_id}.{number}" for number in numbers]
    (one,) = {event.data["request_id"] for event in events}
    assert request_id in (None, one)


def run_id_of(events: list[Event]) -> str:
    return str(events[0].data["data"]["run_id"])


def code_of(events: list[Event]) -> str:
    """The code of the one error event."""
    (error,) = [event for event in events if event.type == "error"]
    return str(error.data["data"]["code"])
