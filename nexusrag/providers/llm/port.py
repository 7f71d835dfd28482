"""What the gateway asks of a language model, and what it gets back."""

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nexusrag.infra.retries import OURS, Verdict
from nexusrag.kernel.errors import ApiError, ErrorCode

FinishReason = Literal["stop", "length", "content_filter", "other"]
FailureReason = Literal["config", "auth", "refused", "rate_limited", "timeout", "unreachable", "broken"]

CHARACTERS_PER_TOKEN = 4
CHARACTERS_OF_LONGEST_TOKEN = 32  # beyond it, on average, a server ignores the limit it was given


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved chunk in the prompt. `number` (from 1) is its marker, as in `[1]`; `vector` its unit embedding, if at hand."""

    number: int
    chunk_id: int
    document_id: str
    text: str
    score: float
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question. `messages` (system, history, question) are already trimmed to the window; `question` stands alone.

    `tenant_id`: for whom it is asked, which decides whose circuit breaker and whose place among the model calls it takes. `call_id` is
    told to providers that take one, so that they can be asked later what the call took.
    """

    messages: tuple[Message, ...] = field(repr=False)
    question: str = field(repr=False)
    passages: tuple[Passage, ...] = field(default=(), repr=False)
    max_output_tokens: int = 1024
    temperature: float = 0.0
    tenant_id: str = ""
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer: valid Unicode, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """How the answer ended and what it took. `estimated`: counted by us, since the model does not say.

    `grounded` is False when the model itself says that the passages do not answer; None leaves the verdict to the citations.
    """

    input_tokens: int
    output_tokens: int
    estimated: bool
    finish_reason: FinishReason = "stop"
    grounded: bool | None = None


class LanguageModel(Protocol):
    """A model. `context_tokens` is the window of prompt and answer together."""

    @property
    def name(self) -> str: ...

    @property
    def context_tokens(self) -> int: ...

    def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
        """The answer: deltas, then exactly one Usage. Closing or cancelling it stops the model within a second.

        Raises ModelError, or INTEGRATION_UNAVAILABLE while the circuit breaker is open. Nothing is asked again once a delta is out.
        """
        ...

    async def close(self) -> None:
        """Gives back what the model holds."""
        ...


@runtime_checkable
class Invoicing(Protocol):
    """A model that can say afterwards what a call took: of one that broke off, or whose process died."""

    @property
    def can_invoice(self) -> bool: ...

    async def invoiced(self, call_id: str) -> Usage | None:
        """What the provider counted; None while it is not known, or not any more. Raises ModelError."""
        ...


class ModelError(ApiError):
    """The model gave no answer, or half of one. `reason` says whose fault it is, for breakers and metrics.

    The message holds nothing of the prompt and nothing that the other side wrote in prose.
    """

    def __init__(self, code: ErrorCode, message: str, reason: FailureReason) -> None:
        super().__init__(code, message)
        self.reason: FailureReason = reason

    @property
    def verdict(self) -> Verdict:
        """What the failure says about the model. One that was too slow is not asked again: the caller has waited long enough."""
        if self.reason in ("config", "auth", "refused"):
            return OURS
        return Verdict(theirs=True, again=self.reason != "timeout")


def estimate_tokens(*texts: str) -> int:
    """Tokens of `texts`, at four characters each, rounded up."""
    return sum(-(-len(text) // CHARACTERS_PER_TOKEN) for text in texts)


def most_tokens(*texts: str) -> int:
    """As many tokens as `texts` may come to: one for four characters of ASCII, one for two bytes of anything else.

    Models cut other scripts finer: a character of Japanese, three bytes, is about one token, one that is rare up to three.
    """
    return sum(-(-_quarters(text) // 4) for text in texts)


def most_tokens_like(texts: Iterable[str], characters: int) -> int:
    """The same of so many characters of unknown text, written as that of `texts` which takes the most."""
    dense, among = max(((_quarters(text), len(text)) for text in texts if text), key=lambda one: one[0] / one[1], default=(1, 1))
    return -(-characters * dense // (among * 4))


def _quarters(text: str) -> int:
    """Quarters of a token."""
    plain = len(text.encode("ascii", "ignore"))
    return plain + 2 * (len(text.encode(errors="surrogatepass")) - plain)


def estimated_usage(prompt: Prompt, written: int, finish_reason: FinishReason = "stop", grounded: bool | None = None) -> Usage:
    """Usage by estimate, `written` being the characters of the answer."""
    read = estimate_tokens(*(message.content for message in prompt.messages))
    return Usage(read, -(-written // CHARACTERS_PER_TOKEN), estimated=True, finish_reason=finish_reason, grounded=grounded)


def sound_text(text: str) -> str:
    """`text` with each half of a surrogate pair that lacks its other half replaced by U+FFFD, and pairs joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
