"""What a run asks of whoever speaks its answer."""

from typing import Protocol

from nexusrag.kernel.errors import ApiError


class Unheard(ApiError):
    """The provider was sent the text, and nothing came back that can be played: it may have spoken, and bill it."""


class Speech(Protocol):
    """Turns text into a sound file."""

    @property
    def mime(self) -> str:
        """Media type of the files, such as `audio/mpeg`."""
        ...

    def said(self, text: str) -> str:
        """What of `text` is sent to whoever speaks it, and charged."""
        ...

    async def speak(self, text: str, *, tenant_id: str = "") -> bytes:
        """`text` spoken, as one whole file. `tenant_id`: for whom, which decides whose circuit breaker counts.

        Raises ApiError with TTS_CONFIG_MISSING, TTS_AUTH_ERROR, TTS_ERROR or, while that breaker is open, INTEGRATION_UNAVAILABLE.
        Messages hold nothing of the text. TTS_ERROR is Unheard where the provider may have spoken all the same.
        """
        ...

    async def close(self) -> None:
        """Gives back what it holds."""
        ...
