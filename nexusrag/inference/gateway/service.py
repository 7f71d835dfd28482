"""Asking the configured model."""

import re
from collections.abc import AsyncGenerator

from nexusrag.providers.llm.port import Delta, LanguageModel, Message, ModelError, Prompt, Usage
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


class Gateway:
    """One model, shared by all callers of a process."""

    def __init__(self, model: LanguageModel, settings: Settings) -> None:
        self._model = model
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
        """Deltas, then one Usage. Closing it stops the model. Raises ModelError."""
        return self._model.stream(prompt)

    async def standalone(self, question: str, history: tuple[Message, ...]) -> str:
        """`question`, made understandable without the conversation when it leans on it.

        A chat model rewrites it; the offline ones get the previous question put before it. Failing to rewrite costs nothing
        but quality.
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
        )
        try:
            pieces = [piece.text async for piece in self._model.stream(prompt) if isinstance(piece, Delta)]
        except ModelError:
            return f"{previous} {question}"
        rewritten = " ".join("".join(pieces).split())
        return rewritten[:2000] or question


def leans_on_history(question: str) -> bool:
    """Whether a question probably refers to what was said before: short, or with words that point back."""
    words = question.split()
    return len(words) <= 3 or _LEADS_ON.search(question) is not None or (len(words) <= 12 and _FOLLOW_UP.search(question) is not None)
