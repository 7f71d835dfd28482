"""What stages take from a request to protect others or a budget. Services ask here before they spend."""

from dataclasses import dataclass


@dataclass(slots=True)
class Limits:
    """`top_k` and `max_output_tokens` are upper bounds, None where there is none."""

    top_k: int | None = None
    max_output_tokens: int | None = None
    audio: bool = True
    # Only the index in our own database is asked, whatever the corpus is configured for.
    local_only: bool = False

    def tighten(
        self, *, top_k: int | None = None, max_output_tokens: int | None = None, audio: bool = True, local_only: bool = False
    ) -> None:
        """Each stage may take away, none may give back."""
        self.top_k = _least(self.top_k, top_k)
        self.max_output_tokens = _least(self.max_output_tokens, max_output_tokens)
        self.audio = self.audio and audio
        self.local_only = self.local_only or local_only

    def passages(self, asked: int) -> int:
        """How many passages whoever asked for so many may have."""
        return asked if self.top_k is None else min(asked, self.top_k)


def _least(held: int | None, given: int | None) -> int | None:
    return min((one for one in (held, given) if one is not None), default=None)
