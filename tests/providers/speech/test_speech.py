"""Spoken answers: the fake, the refusal, and the OpenAI protocol against a real server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nexusrag.infra.outbound import Outbound
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.speech.factory import open_speech
from nexusrag.providers.speech.openai import spoken_text
from nexusrag.providers.speech.port import Speech
from nexusrag.settings import load
from nexusrag.settings.outbound import OutboundSettings
from tests.support.openai_stand_in import MP3, OpenAIStandIn, document, endless, hang, openai_stand_in, refuse

KEY = "sk-canary-93b0"


@pytest.fixture
async def server() -> AsyncIterator[OpenAIStandIn]:
    async with openai_stand_in() as running:
        yield running


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    out = Outbound(OutboundSettings(outbound_allowed_networks="127.0.0.0/8"))
    yield out
    await out.close()


def openai(home: Path, server: OpenAIStandIn, outbound: Outbound, **env: str) -> Speech:
    base = {"TTS_PROVIDER": "openai", "OPENAI_API_KEY": KEY, "OPENAI_TTS_BASE_URL": server.url, "TTS_TIMEOUT_S": "0.5"}
    return open_speech(load(home, {**base, **env}), outbound)


def frames(sound: bytes) -> int:
    """Frames of an MP3 file of 128 kbit/s, 44.1 kHz; fails if it is none."""
    assert len(sound) % 417 == 0
    assert all(sound[start : start + 4] == b"\xff\xfb\x90\x00" for start in range(0, len(sound), 417))
    return len(sound) // 417


async def test_the_fake_speaks_silence_as_long_as_the_text(tmp_path: Path, outbound: Outbound) -> None:
    fake = open_speech(load(tmp_path, {"TTS_PROVIDER": "fake"}), outbound)
    assert fake.mime == "audio/mpeg"
    assert await fake.speak("the same") == await fake.speak("the same")
    assert 0 < frames(await fake.speak("")) < frames(await fake.speak("short")) < frames(await fake.speak("rather longer"))
    assert len(await fake.speak("x" * 10**7)) < 10**6


async def test_without_a_provider_the_setting_is_named(tmp_path: Path, outbound: Outbound) -> None:
    with pytest.raises(ApiError, match="TTS_PROVIDER") as failure:
        await open_speech(load(tmp_path, {}), outbound).speak("text")
    assert failure.value.code is ErrorCode.TTS_CONFIG_MISSING


async def test_the_answer_is_spoken_without_its_markers(tmp_path: Path, server: OpenAIStandIn, outbound: Outbound) -> None:
    sound = await openai(tmp_path, server, outbound, OPENAI_TTS_VOICE="nova").speak("It is so. [1] And so [12].")
    assert sound == MP3 * 3
    assert server.requests == [{"model": "gpt-4o-mini-tts", "voice": "nova", "input": "It is so. And so.", "response_format": "mp3"}]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_a_long_answer_ends_with_a_sentence_within_the_limit() -> None:
    spoken = spoken_text("A sentence of some words. " * 400)
    assert len(spoken) <= 4096
    assert spoken.endswith("words.")
    assert 3000 < len(spoken_text("x" * 5000)) <= 4096
    assert spoken_text("\ud800 [1]") == "?"


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (refuse(401), ErrorCode.TTS_AUTH_ERROR),
        (refuse(403), ErrorCode.TTS_AUTH_ERROR),
        (refuse(400), ErrorCode.TTS_ERROR),
        (refuse(404), ErrorCode.TTS_ERROR),
        (document(b"<html>", "text/html"), ErrorCode.TTS_ERROR),
        (document(b"", "audio/mpeg"), ErrorCode.TTS_ERROR),
        (endless(b"\xff\xfb" * 100_000, pause=0), ErrorCode.TTS_ERROR),
        (hang(), ErrorCode.TTS_ERROR),
    ],
)
async def test_failures_have_codes_and_give_nothing_away(
    tmp_path: Path, server: OpenAIStandIn, outbound: Outbound, behaviour: Any, code: ErrorCode
) -> None:
    server.behaviours = [behaviour]
    with pytest.raises(ApiError) as failure:
        await openai(tmp_path, server, outbound).speak("secret words")
    assert failure.value.code is code
    assert KEY not in failure.value.message
    assert "secret words" not in failure.value.message
    assert len(server.requests) == 1


async def test_a_passing_fault_is_asked_again_once(tmp_path: Path, server: OpenAIStandIn, outbound: Outbound) -> None:
    speech = openai(tmp_path, server, outbound)
    server.behaviours = [refuse(503)]
    assert frames(await speech.speak("text")) == 3
    server.behaviours = [refuse(429), refuse(429)]
    with pytest.raises(ApiError) as failure:
        await speech.speak("text")
    assert failure.value.code is ErrorCode.TTS_ERROR
    assert len(server.requests) == 4


async def test_a_missing_key_and_a_forbidden_address_are_configuration(tmp_path: Path, server: OpenAIStandIn, outbound: Outbound) -> None:
    guarded = Outbound()
    for speech in (openai(tmp_path, server, outbound, OPENAI_API_KEY=""), openai(tmp_path, server, guarded)):
        with pytest.raises(ApiError) as failure:
            await speech.speak("text")
        assert failure.value.code is ErrorCode.TTS_CONFIG_MISSING
    await guarded.close()
    assert server.requests == []


async def test_nothing_to_speak_is_an_error_without_a_call(tmp_path: Path, server: OpenAIStandIn, outbound: Outbound) -> None:
    with pytest.raises(ApiError) as failure:
        await openai(tmp_path, server, outbound).speak(" [1] ")
    assert failure.value.code is ErrorCode.TTS_ERROR
    assert server.requests == []


async def test_whoever_answers_nonsense_over_and_over_is_left_alone(tmp_path: Path, server: OpenAIStandIn, outbound: Outbound) -> None:
    speech = openai(tmp_path, server, outbound)
    server.behaviours = [document(b"<html>", "text/html")] * 5
    codes = []
    for _ in range(6):
        with pytest.raises(ApiError) as failure:
            await speech.speak("text")
        codes.append(failure.value.code)
    assert codes == [ErrorCode.TTS_ERROR] * 5 + [ErrorCode.INTEGRATION_UNAVAILABLE]
    assert len(server.requests) == 5
