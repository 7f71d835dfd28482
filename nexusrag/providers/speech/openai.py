"""Any endpoint that speaks the OpenAI speech protocol. Decides where a long answer is cut and what is taken for sound."""

import asyncio
import random
import re

from nexusrag.infra.outbound import Outbound, OutboundError, OutboundTimeout, UrlNotAllowed
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.sentences import sentences
from nexusrag.settings import Settings

_LONGEST_TEXT = 4096
_LARGEST_FILE = 32 * 1024 * 1024
_ATTEMPTS = 2
_MARKER = re.compile(r"\s*\[\d{1,3}\]")


class OpenAISpeech:
    """One voice of one model."""

    mime = "audio/mpeg"

    def __init__(self, settings: Settings, outbound: Outbound) -> None:
        self._outbound = outbound
        self._model = settings.speech.openai_tts_model
        self._voice = settings.speech.openai_tts_voice
        self._timeout = settings.speech.tts_timeout_s
        self._url = f"{settings.speech.openai_tts_base_url}/audio/speech"
        self._key = settings.llm.openai_api_key.get_secret_value()

    async def speak(self, text: str) -> bytes:
        """See Speech. Markers of citations are not spoken; beyond 4096 characters whole sentences are left out."""
        if not self._key:
            raise ApiError(ErrorCode.TTS_CONFIG_MISSING, "Speech has no key. Set OPENAI_API_KEY.")
        said = spoken_text(text)
        if not said:
            raise ApiError(ErrorCode.TTS_ERROR, "There is nothing to speak.")
        body = {"model": self._model, "voice": self._voice, "input": said, "response_format": "mp3"}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                status, _, answer = await self._outbound.post_json(
                    self._url, body, {"Authorization": f"Bearer {self._key}"}, self._timeout, read_limit=_LARGEST_FILE
                )
            except OutboundError as error:
                raise _failed(error) from None
            if (status != 429 and status < 500) or attempt == _ATTEMPTS:
                return _sound(status, answer)
            await asyncio.sleep(random.uniform(0.2, 0.6))
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """The connections belong to Outbound."""


def spoken_text(text: str) -> str:
    """What of an answer is spoken: no markers, and at most 4096 characters, ending with a sentence if one ends before."""
    plain = " ".join(_MARKER.sub("", text).encode(errors="replace").decode().split())
    if len(plain) <= _LONGEST_TEXT:
        return plain
    end = max((end for _, end in sentences(plain, _LONGEST_TEXT) if end <= _LONGEST_TEXT), default=_LONGEST_TEXT)
    return plain[:end]


def _sound(status: int, answer: bytes) -> bytes:
    if status in (401, 403):
        raise ApiError(ErrorCode.TTS_AUTH_ERROR, f"Speech refused our key (HTTP {status}). Check OPENAI_API_KEY.")
    if status != 200:
        raise ApiError(ErrorCode.TTS_ERROR, f"Speech failed (HTTP {status}). Check OPENAI_TTS_MODEL and OPENAI_TTS_VOICE.")
    # An MP3 file begins with an ID3 tag or with the eleven set bits of a frame.
    if not (answer.startswith(b"ID3") or (len(answer) > 1 and answer[0] == 0xFF and answer[1] & 0xE0 == 0xE0)):
        raise ApiError(ErrorCode.TTS_ERROR, "Speech answered with something that is no MP3 file.")
    return answer


def _failed(error: OutboundError) -> ApiError:
    if isinstance(error, OutboundTimeout):
        return ApiError(ErrorCode.TTS_ERROR, "Speech did not answer in time.")
    if isinstance(error, UrlNotAllowed):
        return ApiError(
            ErrorCode.TTS_CONFIG_MISSING,
            "The address of speech may not be called. Check OPENAI_TTS_BASE_URL and OUTBOUND_ALLOWED_NETWORKS.",
        )
    return ApiError(ErrorCode.TTS_ERROR, f"Speech cannot be reached: {error}.")
