"""Asking the configured model."""

import contextlib
import re
from collections.abc import AsyncGenerator, Callable

from nexusrag.inference.gateway.asked import Asked
from nexusrag.inference.slots.facade import ModelSlots
from nexusrag.kernel.errors import ApiError
from nexusrag.providers.llm.port import (
    CHARACTERS_PER_TOKEN,
    Delta,
    Invoicing,
    LanguageModel,
    Message,
    Prompt,
    Usage,
    estimate_tokens,
)
from nexusrag.settings import Settings

_FOLLOW_UP = re.compile(
    r"\b(it|its|they|them|their|this|that|these|those|he|she|his|her|him|one|ones|same|former|latter)\b"
    r"|(?<!\bis )(?<!\bare )(?<!\bwas )(?<!\bwere )(?<!\bbe )\bthere\b(?! (?:is|are|was|were|will)\b)",  # a place, not what there is
    re.IGNORECASE,
)
_LEADS_ON = re.compile(r"^(and|but|so|also|what about|how about|why|then)\b", re.IGNORECASE)
_REWRITE = (
    "Rewrite the last question so that it can be understood without the conversation. Keep its language and meaning. "
    "Answer with the rewritten question alone."
)
_REWRITE_WAIT_S = 2.0  # for what only makes an answer better


class Gateway:
    """One model, shared by all callers of a process."""

    def __init__(self, model: LanguageModel, settings: Settings, slots: ModelSlots) -> None:
        self._model = model
        self._slots = slots
        self._settings = settings.llm

    @property
    def model_name(self) -> str:
        return self._model.name

    @property
    def prompt_tokens(self) -> int:
        """How much of the window a prompt may take."""
        return self._model.context_tokens - self._settings.llm_max_output_tokens

    @property
    def max_output_tokens(self) -> int:
        return self._settings.llm_max_output_tokens

    def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
        """Deltas, then one Usage. Closing it stops the model. It waits for a place among the model calls of all processes.

        Raises ModelError, SERVICE_BUSY when no place is free in time, INTEGRATION_UNAVAILABLE while the circuit breaker is open.
        """
        return self._placed(prompt) if self._slots.total else self._model.stream(prompt)

    async def _placed(self, prompt: Prompt, wait_s: float | None = None) -> AsyncGenerator[Delta | Usage, None]:
        async with self._slots.place(prompt.tenant_id, wait_s=wait_s), contextlib.aclosing(self._model.stream(prompt)) as pieces:
            async for piece in pieces:
                yield piece

    def so_far(self, asked: Asked) -> Usage | None:
        """What a call has taken: by the model's own count, or while there is none by what was received. None: nothing was."""
        if asked.usage is not None or not asked.deltas:
            return asked.usage
        read = estimate_tokens(*(message.content for message in asked.prompt.messages))
        return Usage(read, self.tokens_in(asked.deltas, asked.characters), estimated=True)

    def tokens_in(self, deltas: int, characters: int) -> int:
        """How many tokens were received. The OpenAI protocol sends them one by one."""
        return deltas if self._settings.llm_provider == "openai" else -(-characters // CHARACTERS_PER_TOKEN)

    @property
    def can_invoice(self) -> bool:
        """Whether the provider can be asked afterwards."""
        return isinstance(self._model, Invoicing) and self._model.can_invoice

    async def invoiced(self, call_id: str) -> Usage | None:
        """What the provider counted for a call, by the id that its prompt had; None while that is not known. Raises ModelError."""
        return await self._model.invoiced(call_id) if isinstance(self._model, Invoicing) else None

    async def standalone(
        self, question: str, history: tuple[Message, ...], *, tenant_id: str, call_id: str, ask: Callable[[Prompt], Asked]
    ) -> str:
        """`question`, made understandable without the conversation when it leans on it.

        A chat model rewrites it; the offline ones get the previous question put before it. Failing to rewrite costs nothing
        but quality. `ask` counts the call.
        """
        previous = next((message.content for message in reversed(history) if message.role == "user"), None)
        if previous is None or not leans_on_history(question):
            return question
        if self._settings.llm_provider in ("extractive", "fake"):
            return f"{previous} {question}"
        conversation = "\n".join(f"{message.role}: {message.content}" for message in history[-6:])
        prompt = Prompt(
            messages=(Message("system", _REWRITE), Message("user", f"{conversation}\nuser: {question}")),
            question=question,
            max_output_tokens=200,
            tenant_id=tenant_id,
            call_id=call_id,
        )
        asked, pieces = ask(prompt), []
        answering = self._placed(prompt, _REWRITE_WAIT_S) if self._slots.total else self._model.stream(prompt)
        try:
            async with contextlib.aclosing(answering) as answer:
                async for piece in answer:
                    asked.take(piece)
                    if isinstance(piece, Delta):
                        pieces.append(piece.text)
        except ApiError:
            return f"{previous} {question}"
        rewritten = " ".join("".join(pieces).split())
        return rewritten[:2000] or question


def leans_on_history(question: str) -> bool:
    """Whether a question probably refers to what was said before: short, or with words that point back."""
    words = question.split()
    return len(words) <= 3 or _LEADS_ON.search(question) is not None or (len(words) <= 12 and _FOLLOW_UP.search(question) is not None)
