"""What speech costs: the characters that the provider was sent, however the run ends."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nexusrag.agents.speech import repository
from nexusrag.agents.speech.facade import Speaker
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.providers.speech.port import Speech
from nexusrag.providers.speech.silent import FakeSpeech
from tests.agents.scripted import FACTS, Installation, asking, run_id_of
from tests.billing.costs.support import add_price
from tests.support.api import Api, Event, Person
from tests.support.behind import rows
from tests.support.installation import Servers, serving, working
from tests.support.openai_stand_in import OpenAIStandIn, hang, openai_stand_in, talk
from tests.support.processes import api_process, until

QUESTION = "Who is the lighthouse keeper?"


def openai(provider: OpenAIStandIn) -> dict[str, str]:
    keyed = {"OPENAI_API_KEY": "sk-stand-in", "INGEST_EXECUTION_MODE": "inline"}
    return {
        **keyed, "LLM_PROVIDER": "openai", "LLM_BASE_URL": provider.url, "LLM_MODEL": "stand-in",
        "TTS_PROVIDER": "openai", "OPENAI_TTS_BASE_URL": provider.url,
    }  # fmt: skip


async def asker(api: Api) -> tuple[Person, str]:
    """Whoever has no price for speech has all of it estimated."""
    person = await api.person()
    for provider in ("openai", "fake"):
        await add_price(person, provider=provider, component="tts", rate_type="per_char", rate_value_usd=0.001)
    corpus = await person.corpus()
    await person.text(corpus, FACTS)
    return person, corpus


async def spoken(api: Api, run_id: str) -> list[tuple[int, bool]]:
    """Characters on the run's lines, and whether they are an estimate."""
    found = await rows(api, "select quantity, estimated from ledger_lines where subject = $1 and rate_type = 'per_char'", run_id)
    return [(int(row["quantity"]), row["estimated"]) for row in found]


def answer_of(events: list[Event]) -> str:
    (text,) = [event.data["data"]["text"] for event in events if event.type == "message.final"]
    return str(text)


def ended(events: list[Event]) -> list[str]:
    return [event.type for event in events if event.type != "heartbeat"][-3:]


@contextmanager
def speaking_with(api: Api, speech: Speech) -> Iterator[None]:
    whole = api.resources.get(Speaker)
    api.resources.put(Speaker, Speaker(api.resources, speech))
    try:
        yield
    finally:
        api.resources.put(Speaker, whole)


@pytest.mark.parametrize("words", [["The keeper is ", "Ada Moreau [1]", " [1]."], ["She keeps the light and the books [1]. "] * 200])
async def test_what_is_charged_is_what_the_provider_was_sent(servers: Servers, words: list[str]) -> None:
    async with openai_stand_in() as provider:
        provider.chat = talk(words)
        async with serving(servers.with_env(**openai(provider))) as (app, url):
            api = Api(servers, app, url)
            person, corpus = await asker(api)
            events = await person.run(corpus, QUESTION, audio=True)
            assert ended(events) == ["message.final", "audio.ready", "done"]
            (sent,) = [request["input"] for request in provider.requests if "input" in request]
            assert len(sent) < len(answer_of(events))
            assert await spoken(api, run_id_of(events)) == [(len(sent), False)]
            await api.close()


async def test_speech_that_could_not_be_kept_is_charged(scripted: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, "The database is away.")

    person, corpus = await asker(scripted.api)
    monkeypatch.setattr(repository, "insert", fail)
    events = await person.run(corpus, QUESTION, audio=True)
    assert ended(events) == ["message.final", "audio.error", "done"]
    assert await spoken(scripted.api, run_id_of(events)) == [(len(answer_of(events)), False)]


async def test_speech_that_was_refused_costs_nothing(scripted: Installation) -> None:
    class Refusing(FakeSpeech):
        async def speak(self, text: str, *, tenant_id: str = "") -> bytes:
            raise ApiError(ErrorCode.TTS_ERROR, "The speaker is hoarse.")

    person, corpus = await asker(scripted.api)
    with speaking_with(scripted.api, Refusing()):
        events = await person.run(corpus, QUESTION, audio=True)
    assert ended(events) == ["message.final", "audio.error", "done"]
    assert await spoken(scripted.api, run_id_of(events)) == []


async def test_speech_that_does_not_answer_is_charged_by_estimate(servers: Servers) -> None:
    async with openai_stand_in() as provider:
        provider.behaviours = [talk(["The keeper is ", "Ada Moreau [1]."]), hang()]
        async with serving(servers.with_env(**openai(provider), TTS_TIMEOUT_S="1", EXT_RETRY_MAX_ATTEMPTS="1")) as (app, url):
            api = Api(servers, app, url)
            person, corpus = await asker(api)
            events = await person.run(corpus, QUESTION, audio=True)
            assert ended(events) == ["message.final", "audio.error", "done"]
            (sent,) = {request["input"] for request in provider.requests if "input" in request}
            assert await spoken(api, run_id_of(events)) == [(len(sent), True)]
            await api.close()


async def test_a_run_that_is_cancelled_while_it_is_spoken_is_charged_for_it(scripted: Installation) -> None:
    class Speaking(FakeSpeech):
        async def speak(self, text: str, *, tenant_id: str = "") -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

    person, corpus = await asker(scripted.api)
    with speaking_with(scripted.api, Speaking()):
        async with asking(person, corpus, QUESTION, audio=True) as stream:
            while not [event for event in await stream.read(len(stream.events) + 1) if event.type == "message.final"]:
                pass
            await person.post(f"/v1/runs/{stream.run_id}/cancel")
            events = await stream.rest()
    assert ended(events) == ["message.final", "error", "done"]
    assert await spoken(scripted.api, stream.run_id) == [(len(answer_of(events)), True)]


@pytest.mark.slow
async def test_a_run_whose_process_died_while_it_was_spoken_is_charged_for_it(servers: Servers, scripted: Installation) -> None:
    async with openai_stand_in() as provider:
        person, corpus = await asker(scripted.api)
        # Without a marker: the worker that finds the run may be another test's, which speaks markers.
        provider.behaviours = [talk(["The keeper is ", "Ada Moreau."]), hang()]
        env = {**openai(provider), "RUN_DISCONNECT_GRACE_S": "60"}
        async with (
            api_process(servers, **env) as (process, url),
            person.at(url) as there,
            asking(there, corpus, QUESTION, audio=True) as stream,
            working(servers.with_env(**env, INGEST_QUEUE_NAME=new_id("queue"))),
        ):
            await stream.read(1)

            async def told() -> list[dict[str, Any]]:
                written = "select 1 from run_events where run_id = $1 and payload like '%event: message.final%'"
                return await rows(scripted.api, written, stream.run_id)

            await until(told)
            await until(lambda: asyncio.sleep(0, len(provider.requests) == 2))
            process.kill()
            assert await until(lambda: spoken(scripted.api, stream.run_id), within_s=40, every_s=0.2) == [
                (len(provider.requests[1]["input"]), True)
            ]
