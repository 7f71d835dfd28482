"""Answers that are spoken: the file, who gets it, and failing to speak, which never fails the run."""

from collections.abc import AsyncIterator

import pytest

from nexusrag.agents.speech.facade import Speaker
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.speech.silent import FakeSpeech
from tests.agents.scripted import Installation, asking, check_grammar, installation
from tests.support.api import error_of
from tests.support.installation import Servers


async def test_an_answer_is_spoken_when_asked_for(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    events = await person.run(corpus, "Who is the lighthouse keeper?", audio=True)
    check_grammar(events)
    assert [event.type for event in events][-3:] == ["message.final", "audio.ready", "done"]
    ready = events[-2].data["data"]
    assert set(ready) == {"audio_url", "audio_id", "mime"}
    assert ready["audio_url"].endswith(f"/audio/{ready['audio_id']}.mp3")
    answer = await person.get(f"/v1/audio/{ready['audio_id']}.mp3")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == ready["mime"]
    assert answer.content[:2] == b"\xff\xfb"


async def test_a_spoken_answer_is_the_tenants_own(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    stranger = await scripted.api.person()
    events = await person.run(corpus, "Who is the lighthouse keeper?", audio=True)
    audio_id = events[-2].data["data"]["audio_id"]
    assert error_of(await stranger.get(f"/v1/audio/{audio_id}.mp3")) == ("NOT_FOUND", 404)
    assert error_of(await scripted.api.anonymous().get(f"/v1/audio/{audio_id}.mp3"))[1] == 401


async def test_without_being_asked_nothing_is_said(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    assert [event.type for event in await person.run(corpus, "Who is the lighthouse keeper?")][-2:] == ["message.final", "done"]


@pytest.fixture
async def mute(servers: Servers) -> AsyncIterator[Installation]:
    async with installation(servers, TTS_PROVIDER="none") as held:
        yield held


async def test_speech_that_is_not_configured_is_one_event_and_no_failure(mute: Installation) -> None:
    person, corpus = await mute.asker()
    async with asking(person, corpus, "Who is the lighthouse keeper?", audio=True) as stream:
        events = await stream.rest()
    check_grammar(events)
    assert [event.type for event in events][-3:] == ["message.final", "audio.error", "done"]
    assert events[-2].data["data"]["code"] == "TTS_CONFIG_MISSING"
    assert (await mute.receipt(person, stream.run_id))["state"] == "succeeded"


class BrokenSpeech(FakeSpeech):
    async def speak(self, text: str, *, tenant_id: str = "") -> bytes:
        raise ApiError(ErrorCode.TTS_ERROR, "The speaker is hoarse.")


async def test_speech_that_breaks_is_one_event_and_no_failure(scripted: Installation) -> None:
    person, corpus = await scripted.asker()
    resources = scripted.api.resources
    whole = resources.get(Speaker)
    resources.put(Speaker, Speaker(resources, BrokenSpeech()))
    try:
        events = await person.run(corpus, "Who is the lighthouse keeper?", audio=True)
    finally:
        resources.put(Speaker, whole)
    check_grammar(events)
    assert [event.type for event in events][-3:] == ["message.final", "audio.error", "done"]
    assert events[-2].data["data"] == {"code": "TTS_ERROR", "message": "The speaker is hoarse."}
