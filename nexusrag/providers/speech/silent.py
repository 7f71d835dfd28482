"""Speakers that call nobody: one that refuses, and one for tests."""

from nexusrag.kernel.errors import ApiError, ErrorCode

# One frame of MPEG-1 layer III, 128 kbit/s, 44.1 kHz, stereo: four bytes of header, then zeros, which decode to silence.
_FRAME = b"\xff\xfb\x90\x00" + bytes(413)
_CHARACTERS_PER_FRAME = 2  # a frame lasts 26 ms
_MOST_FRAMES = 2000


class NoSpeech:
    """No provider is set."""

    mime = "audio/mpeg"

    def said(self, text: str) -> str:
        """Nothing."""
        return ""

    async def speak(self, text: str, *, tenant_id: str = "") -> bytes:
        """Always refuses."""
        raise ApiError(ErrorCode.TTS_CONFIG_MISSING, "Speech is not configured. Set TTS_PROVIDER.")

    async def close(self) -> None:
        """Holds nothing."""


class FakeSpeech:
    """Silence, as long as the text would take. The same text gives the same bytes."""

    mime = "audio/mpeg"

    def said(self, text: str) -> str:
        """All of it."""
        return text

    async def speak(self, text: str, *, tenant_id: str = "") -> bytes:
        """A valid MP3 file of silence."""
        return _FRAME * min(1 + len(text) // _CHARACTERS_PER_FRAME, _MOST_FRAMES)

    async def close(self) -> None:
        """Holds nothing."""
