"""Any endpoint that speaks the OpenAI speech protocol. Decides where a long answer is cut and what is taken for sound."""

import re

from nexusrag.infra.integrations import Failed
from nexusrag.infra.outbound import Outbound, OutboundError, OutboundTimeout, UrlNotAllowed
from nexusrag.infra.retries import NONSENSE, of_status
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.sentences import sentences
from nexusrag.providers.speech.port import Unheard
from nexusrag.settings import Settings

_LONGEST_TEXT = 4096
_LARGEST_FILE = 32 * 1024 * 1024
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

    def said(self, text: str) -> str:
        """Markers of citations are not spoken; beyond 4096 characters whole sentences are left out."""
        return spoken_text(text)

    async def speak(self, text: str, *, tenant_id: str = "") -> bytes:
        """See Speech."""
        if not self._key:
            raise ApiError(ErrorCode.TTS_CONFIG_MISSING, "Speech has no key. Set OPENAI_API_KEY.")
        said = self.said(text)
        if not said:
            raise ApiError(ErrorCode.TTS_ERROR, "There is nothing to speak.")
        body = {"model": self._model, "voice": self._voice, "input": said, "response_format": "mp3"}
        headers = {"Authorization": f"Bearer {self._key}"}

        async def ask() -> bytes:
            try:
                status, told, answer = await self._outbound.post_json(self._url, body, headers, self._timeout, read_limit=_LARGEST_FILE)
            except OutboundError as error:
                raise Failed(_failed(error), error.verdict) from None
            if status != 200:
                raise Failed(_refused(status), of_status(status, told.get("retry-after")))
            return _sound(answer)

        return await self._outbound.integrations.calling("tts.openai", tenant_id, self._timeout).answer(ask)

    async def close(self) -> None:
        """The connections belong to Outbound."""


def spoken_text(text: str) -> str:
    """What of an answer is spoken: no markers, and at most 4096 characters, ending with a sentence if one ends before."""
    plain = " ".join(_MARKER.sub("", text).encode(errors="replace").decode().split())
    if len(plain) <= _LONGEST_TEXT:
        return plain
    end = max((end for _, end in sentences(plain, _LONGEST_TEXT) if end <= _LONGEST_TEXT), default=_LONGEST_TEXT)
    return plain[:end]


def _refused(status: int) -> ApiError:
    if status in (401, 403):
        return ApiError(ErrorCode.TTS_AUTH_ERROR, f"Speech refused our key (HTTP {status}). Check OPENAI_API_KEY.")
    return ApiError(ErrorCode.TTS_ERROR, f"Speech failed (HTTP {status}). Check OPENAI_TTS_MODEL and OPENAI_TTS_VOICE.")


def _sound(answer: bytes) -> bytes:
    # An MP3 file begins with an ID3 tag or with the eleven set bits of a frame.
    if not (answer.startswith(b"ID3") or (len(answer) > 1 and answer[0] == 0xFF and answer[1] & 0xE0 == 0xE0)):
        raise Failed(Unheard(ErrorCode.TTS_ERROR, "Speech answered with something that is no MP3 file."), NONSENSE)
    return answer


def _failed(error: OutboundError) -> ApiError:
    if isinstance(error, OutboundTimeout):
        return Unheard(ErrorCode.TTS_ERROR, "Speech did not answer in time.")
    if isinstance(error, UrlNotAllowed):
        return ApiError(
            ErrorCode.TTS_CONFIG_MISSING,
            "The address of speech may not be called. Check OPENAI_TTS_BASE_URL and OUTBOUND_ALLOWED_NETWORKS.",
        )
    return ApiError(ErrorCode.TTS_ERROR, f"Speech cannot be reached: {error}.")
