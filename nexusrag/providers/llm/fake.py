"""A model for tests and load: a fixed text in a set number of deltas, at next to no cost."""

import asyncio
from collections.abc import AsyncGenerator

from nexusrag.providers.llm.port import Delta, Prompt, Usage, estimated_usage

_WORDS = ("This ", "is ", "a ", "fixed ", "answer ", "from ", "the ", "fake ", "model. ")
_YIELD_EVERY = 16


class FakeModel:
    """Says the same words every time, and points to the first passage if there is one."""

    def __init__(self, deltas: int = 20, delay_ms: float = 0, context_tokens: int = 16_000) -> None:
        self.name = "fake"
        self.context_tokens = context_tokens
        self._delay = delay_ms / 1000
        self._plain = [Delta(_WORDS[index % len(_WORDS)]) for index in range(deltas)]
        self._citing = [*self._plain[:-1], Delta("[1].")]
        self._written = sum(len(delta.text) for delta in self._plain)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
        """The fixed answer, in exactly as many deltas as were set. Lets other tasks run now and then."""
        for index, delta in enumerate(self._citing if prompt.passages else self._plain):
            if self._delay:
                await asyncio.sleep(self._delay)
            elif index % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            yield delta
        yield estimated_usage(prompt, self._written)

    async def close(self) -> None:
        """Holds nothing."""
