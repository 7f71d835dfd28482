"""What a run asks of whoever speaks its answer."""

from typing import Protocol


class Speech(Protocol):
    """Turns text into a sound file."""

    @property
    def mime(self) -> str:
        """Media type of the files, such as `audio/mpeg`."""
        ...

    async def speak(self, text: str) -> bytes:
        """`text` spoken, as one whole file.

        Raises ApiError with TTS_CONFIG_MISSING, TTS_AUTH_ERROR or TTS_ERROR. Messages hold nothing of the text.
        """
        ...

    async def close(self) -> None:
        """Gives back what it holds."""
        ...
