"""Any endpoint that speaks the OpenAI chat protocol, streamed.

Decides what is left out when a model refuses it, what counts as progress, and where an answer without end is cut. Nothing is asked
again after the first token.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from nexusrag.infra.integrations import Attempt
from nexusrag.infra.outbound import Outbound, OutboundError, OutboundStream, OutboundTimeout, RequestUnsayable, UrlNotAllowed
from nexusrag.infra.retries import Verdict, seconds
from nexusrag.kernel.errors import ErrorCode
from nexusrag.providers.llm.port import (
    CHARACTERS_OF_LONGEST_TOKEN,
    Delta,
    FinishReason,
    ModelError,
    Prompt,
    Usage,
    estimated_usage,
    sound_text,
)
from nexusrag.providers.llm.sse import BrokenStream, Events, parse
from nexusrag.settings.llm import LlmSettings

_REFUSAL_LIMIT = 64 * 1024
_WHOLE_LIMIT = 8 * 1024 * 1024
_END_TIMEOUT_S = 0.25
_INVOICE_TIMEOUT_S = 5.0
# Parameters that some models refuse: what is sent in their place when they do.
_OPTIONAL = {"max_tokens": "max_completion_tokens", "temperature": None, "stream_options": None}
_UNKNOWN = re.compile(rf"(?i:unsupported|unrecognized|unknown|unexpected|extra)[^.{{}}]{{0,60}}\b({'|'.join(_OPTIONAL)})\b")
_WORD = re.compile(r"[a-z_]{1,40}")
_FINISH: dict[Any, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


class OpenAIModel:
    """One model of one endpoint."""

    def __init__(self, settings: LlmSettings, outbound: Outbound) -> None:
        self.name = settings.llm_model
        self.context_tokens = settings.llm_context_tokens
        self._settings = settings
        self._outbound = outbound
        self._url = f"{settings.llm_base_url}/chat/completions"
        key = settings.openai_api_key.get_secret_value()
        self._headers = {"Accept": "text/event-stream", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._refused: set[str] = set()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
        """See LanguageModel. A server that streams nothing but answers in one piece is understood too."""
        wait = self._settings.llm_first_token_timeout_s
        calling = self._outbound.integrations.calling("llm.openai", prompt.tenant_id, wait)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.llm_total_timeout_s
        billed = False  # an attempt in vain may be on the bill as well, and what the last one says is of itself alone
        while True:
            answer = _Answer(prompt)
            async with calling.attempt() as attempt:
                try:
                    async with contextlib.aclosing(self._answered(prompt, answer, attempt, deadline)) as deltas:
                        async for delta in deltas:
                            await attempt.answered()
                            yield delta
                    usage = answer.usage()
                    yield replace(usage, estimated=True) if billed else usage
                    return
                except OutboundError as error:
                    failure = _failed(error)
                except ModelError as error:
                    failure = error
                attempt.failed(failure.verdict)
            if answer.started:
                raise failure
            billed = billed or answer.accepted or not isinstance(failure, _Refused)
            if isinstance(failure, _Refused) and failure.parameter and failure.parameter not in self._refused:
                self._refused.add(failure.parameter)
                continue
            pause = calling.pause(failure.verdict)
            if pause is None or loop.time() + pause > deadline:
                raise failure
            await asyncio.sleep(pause)

    @property
    def can_invoice(self) -> bool:
        return bool(self._settings.llm_usage_url)

    async def invoiced(self, call_id: str) -> Usage | None:
        """See Invoicing. A server that does not know the call, or has not closed it yet, says 404."""
        url = self._settings.llm_usage_url.replace("{call_id}", quote(call_id, safe=""))
        try:
            status, body = await self._outbound.get(url, self._headers, _INVOICE_TIMEOUT_S, read_limit=_REFUSAL_LIMIT)
        except OutboundError as error:
            raise _failed(error) from error
        if status == 404:
            return None
        counted = _counted(_object(body).get("usage")) if status == 200 else None
        if counted is None:
            raise _broken("does not say what a call took")
        return Usage(*counted, estimated=False)

    async def close(self) -> None:
        """The connections belong to Outbound."""

    async def _answered(self, prompt: Prompt, answer: "_Answer", attempt: Attempt, deadline: float) -> AsyncGenerator[Delta, None]:
        """The deltas of one attempt, up to the end of the answer. Raises OutboundError, ModelError."""
        loop = asyncio.get_running_loop()
        async with self._open(prompt) as upstream:
            await _check(upstream)
            answer.accepted = True
            if "json" in upstream.headers.get("content-type", ""):
                for delta in answer.take_whole(await upstream.read(_WHOLE_LIMIT)):
                    yield delta
            async for chunk in upstream:
                for delta in answer.feed(chunk):
                    yield delta
                if answer.ended:
                    break
                if answer.progressed():
                    await attempt.answered()
                    upstream.patience = self._settings.llm_stall_timeout_s
                if loop.time() > deadline:
                    raise OutboundTimeout("no end in time")
            await answer.finish(upstream)

    def _open(self, prompt: Prompt) -> OutboundStream:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": prompt.max_output_tokens,
            "temperature": prompt.temperature,
        }
        for name in self._refused:
            value, other = body.pop(name), _OPTIONAL[name]
            if other:
                body[other] = value
        wait = self._settings.llm_first_token_timeout_s
        headers = {**self._headers, "X-Client-Request-Id": prompt.call_id} if prompt.call_id else self._headers
        return self._outbound.stream(self._url, body, headers, first_byte_timeout=wait, stall_timeout=None)


@dataclass
class _Answer:
    """What has been understood so far of one answer. `accepted`: the endpoint has taken the question; `started`: a delta is out;
    `ended`: nothing more is wanted."""

    prompt: Prompt
    accepted: bool = False
    started: bool = False
    ended: bool = False
    _written: int = 0
    _finish: FinishReason | None = None
    _counted: tuple[int, int] | None = None
    _progress: bool = False
    _events: Events = field(default_factory=Events)

    def feed(self, chunk: bytes) -> Iterator[Delta]:
        """The deltas that `chunk` completes. Raises ModelError, after them, for an error sent in the stream."""
        try:
            for payload in self._events.feed(chunk):
                if payload == b"[DONE]":
                    self.ended = True
                elif (text := self._text(self._content(payload))) is not None:
                    yield text
                if self.ended:
                    return
        except BrokenStream as error:
            raise _broken(str(error)) from None

    def progressed(self) -> bool:
        """Whether the model said anything since this was last asked: thoughts that are not shown count, comments do not."""
        progress, self._progress = self._progress, False
        return progress

    def take_whole(self, body: bytes) -> Iterator[Delta]:
        """The text of an answer in one piece."""
        try:
            document = parse(body)
            if document.get("error"):
                raise _refused(200, document)
            choice = document["choices"][0]
            self._count(document.get("usage"))
            self._finish = _FINISH.get(choice.get("finish_reason"), "other")
            text = self._text(choice["message"]["content"])
        except (ValueError, LookupError, TypeError, AttributeError):
            raise _broken("sends what is no completion") from None
        if text is not None:
            yield text

    async def finish(self, upstream: OutboundStream) -> None:
        """Ends the stream: raises ModelError if it ended before the answer did, and frees the connection for the next one."""
        if not self.ended and self._finish is None:
            raise ModelError(ErrorCode.SERVICE_UNAVAILABLE, "The language model broke off its answer. Try again.", "broken")
        if self._written < self._limit:
            await upstream.drain(_END_TIMEOUT_S)

    def usage(self) -> Usage:
        """The model's own count, or an estimate."""
        finish = self._finish or "stop"
        if self._counted is None:
            return estimated_usage(self.prompt, self._written, finish)
        return Usage(*self._counted, estimated=False, finish_reason=finish)

    @property
    def _limit(self) -> int:
        return self.prompt.max_output_tokens * CHARACTERS_OF_LONGEST_TOKEN

    def _content(self, payload: bytes) -> Any:
        try:
            event = parse(payload)
        except ValueError:
            raise _broken("sends what is no JSON") from None
        if not isinstance(event, dict):
            raise _broken("sends what is no event")
        if event.get("error"):
            raise _refused(200, event)
        self._count(event.get("usage"))
        choices = event.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return None
        self._progress = True
        choice = choices[0]
        if choice.get("finish_reason"):
            self._finish = _FINISH.get(choice["finish_reason"], "other")
        part = choice.get("delta")
        return part.get("content") if isinstance(part, dict) else None

    def _text(self, text: Any) -> Delta | None:
        if not isinstance(text, str) or not text:
            return None
        room = self._limit - self._written
        if len(text) >= room:
            text, self._finish, self.ended = text[:room], "length", True
        text = sound_text(text)
        self._written += len(text)
        self.started = True
        return Delta(text)

    def _count(self, usage: Any) -> None:
        self._counted = _counted(usage) or self._counted


class _Refused(ModelError):
    """The endpoint said no. `pause_s`: it asked for this pause; `parameter`: what it does not take."""

    parameter: str = ""
    pause_s: float | None = None

    @property
    def verdict(self) -> Verdict:
        return replace(super().verdict, pause_s=self.pause_s)


def _counted(usage: Any) -> tuple[int, int] | None:
    """Tokens read and written, if `usage` says so credibly."""
    if not isinstance(usage, dict):
        return None
    read, wrote = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(read, int) and isinstance(wrote, int) and 0 <= read < 1 << 31 and 0 <= wrote < 1 << 31:
        return read, wrote
    return None


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` holds, or an empty one."""
    try:
        found = parse(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def _check(upstream: OutboundStream) -> None:
    """Raises _Refused unless the endpoint answers."""
    if upstream.status == 200:
        return
    body: Any = None
    try:
        body = parse(await upstream.read(_REFUSAL_LIMIT))
    except (OutboundError, ValueError):
        pass  # the status says enough
    failure = _refused(upstream.status, body if isinstance(body, dict) else {})
    failure.pause_s = seconds(upstream.headers.get("retry-after"))
    if failure.pause_s is not None:
        failure.headers["Retry-After"] = str(max(1, round(failure.pause_s)))
    raise failure


def _refused(status: int, body: dict[str, Any]) -> _Refused:
    error = body.get("error")
    error = error if isinstance(error, dict) else {}
    code = _word(error.get("code")) or _word(error.get("type"))
    said = f" (HTTP {status}{f', {code}' if code else ''})"
    away, refused = ErrorCode.SERVICE_UNAVAILABLE, ErrorCode.INTEGRATION_UNAVAILABLE
    if status in (401, 403):
        failure = _Refused(refused, f"The language model refused our key{said}. Check OPENAI_API_KEY.", "auth")
    elif status == 429 or code in ("rate_limit_exceeded", "insufficient_quota"):
        failure = _Refused(away, f"The language model takes no more requests at present{said}. Try again later.", "rate_limited")
    elif status == 404:
        failure = _Refused(refused, f"There is no such language model{said}. Check LLM_BASE_URL and LLM_MODEL.", "refused")
    elif status >= 500 or status in (200, 408, 409):
        failure = _Refused(away, f"The language model failed{said}. Try again.", "broken")
    else:
        failure = _Refused(refused, f"The language model refused the request{said}.", "refused")
    if status in (400, 422):
        failure.parameter = _parameter(error.get("param"), error.get("message"))
    return failure


def _parameter(named: Any, message: Any) -> str:
    """The parameter that the endpoint does not take, if it is one that can be left out."""
    if isinstance(named, str) and named in _OPTIONAL:
        return named
    unknown = _UNKNOWN.search(message[:300]) if isinstance(message, str) else None
    return unknown[1] if unknown else ""


def _failed(error: OutboundError) -> ModelError:
    if isinstance(error, OutboundTimeout):
        return ModelError(ErrorCode.SERVICE_UNAVAILABLE, "The language model did not answer in time. Try again.", "timeout")
    if isinstance(error, UrlNotAllowed):
        return ModelError(
            ErrorCode.INTEGRATION_UNAVAILABLE,
            "The address of the language model may not be called. Check LLM_BASE_URL and OUTBOUND_ALLOWED_NETWORKS.",
            "config",
        )
    if isinstance(error, RequestUnsayable):
        return ModelError(ErrorCode.INTEGRATION_UNAVAILABLE, f"The language model cannot be asked: {error}.", "refused")
    return ModelError(ErrorCode.SERVICE_UNAVAILABLE, f"The language model cannot be reached: {error}. Try again.", "unreachable")


def _broken(what: str) -> ModelError:
    return ModelError(ErrorCode.INTEGRATION_UNAVAILABLE, f"The language model {what}.", "broken")


def _word(value: Any) -> str:
    """`value` if it is a plain word, which cannot hold what the prompt said."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""
