"""Gemini on Vertex AI, through google-genai over the guarded session.

The library is imported with the first question: it takes a second and tens of megabytes that other providers need not pay.
"""

import asyncio
import contextlib
import importlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp

from nexusrag.infra.outbound import Outbound
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
from nexusrag.settings.llm import LlmSettings

if TYPE_CHECKING:
    from google.genai import Client
    from google.genai.types import GenerateContentResponse

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_REMEMBER_FAILURE_S = 30.0
_CONTENT_FILTER = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY")
_FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(_CONTENT_FILTER, "content_filter"),
}

# Where the answers that the running call opens are noted. The library keeps them to itself, and does not close the connection of a
# stream that is left before its end.
_OPENED: ContextVar[list[aiohttp.ClientResponse] | None] = ContextVar("opened", default=None)


class VertexModel:
    """One Gemini model of one project, under Google's application default credentials."""

    def __init__(self, settings: LlmSettings, outbound: Outbound, *, credentials: Any = None) -> None:
        """`credentials` (a google.auth.credentials.Credentials) replace the application default ones, for tests."""
        self.name = settings.gemini_model
        self.context_tokens = settings.llm_context_tokens
        self._settings = settings
        self._location = settings.google_cloud_location or settings.vertex_location
        self._outbound = outbound
        self._credentials = credentials
        self._client: Client | None = None
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._refused: tuple[float, ModelError] | None = None

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
        """See LanguageModel. Raises ModelError with VERTEX_CONFIG_MISSING, VERTEX_AUTH_ERROR and VERTEX_TIMEOUT among others."""
        # The library opens the stream in one wait, and gives its first chunk in another.
        calling = self._outbound.integrations.calling("llm.vertex", prompt.tenant_id, 2 * self._settings.llm_first_token_timeout_s)
        deadline = asyncio.get_running_loop().time() + self._settings.llm_total_timeout_s
        while True:
            answer = _Answer(prompt)
            async with calling.attempt() as attempt:
                try:
                    async with contextlib.aclosing(self._answered(prompt, answer, deadline)) as deltas:
                        async for delta in deltas:
                            await attempt.answered()
                            if delta is not None:
                                yield delta
                    yield answer.usage()
                    return
                except _errors() as error:
                    failure = _failed(error)
                attempt.failed(failure.verdict)
            pause = None if answer.written else calling.pause(failure.verdict)
            if pause is None:
                raise failure
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Gives the library's client back; the connections belong to Outbound."""
        client, self._client = self._client, None
        if client is not None:
            await client.aio.aclose()
            client.close()
        if self._session is not None:
            await self._session.close()

    async def _answered(self, prompt: Prompt, answer: "_Answer", deadline: float) -> AsyncGenerator[Delta | None, None]:
        """The deltas of one attempt, None for a chunk without text. Raises `_errors()`."""
        loop = asyncio.get_running_loop()
        opened: list[aiohttp.ClientResponse] = []
        patience = self._settings.llm_first_token_timeout_s
        try:
            async with asyncio.timeout(patience):
                client = await self._open()
                chunks = await client.aio.models.generate_content_stream(**self._request(prompt))
            while not answer.full:
                chunk = await _next(chunks, opened, min(patience, deadline - loop.time()))
                if chunk is None:
                    break
                patience = self._settings.llm_stall_timeout_s
                yield answer.take(chunk)
        finally:
            for response in opened:
                response.close()

    async def _open(self) -> "Client":
        """The client, made with the first question."""
        if not self._settings.google_cloud_project or not self._location:
            raise ModelError(
                ErrorCode.VERTEX_CONFIG_MISSING,
                "The language model has no project or region. Set GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION.",
                "config",
            )
        async with self._opening:
            loop = asyncio.get_running_loop()
            if self._refused is not None and loop.time() < self._refused[0]:
                raise self._refused[1]
            if self._client is None:
                try:
                    self._session = self._session or _noting_session(self._outbound)
                    self._client = await asyncio.to_thread(self._make, self._session)
                except _library_errors() as error:
                    # Looking for credentials can take seconds and a thread: many waiting questions share one failure.
                    self._refused = (loop.time() + _REMEMBER_FAILURE_S, _failed(error))
                    raise self._refused[1] from None
            return self._client

    def _make(self, session: aiohttp.ClientSession) -> "Client":
        genai = importlib.import_module("google.genai")
        auth = importlib.import_module("google.auth")
        if self._credentials is None:
            self._credentials, _ = auth.default(scopes=[_SCOPE])
        client: Client = genai.Client(
            vertexai=True,
            project=self._settings.google_cloud_project,
            location=self._location,
            credentials=self._credentials,
            http_options=genai.types.HttpOptions(
                base_url=self._settings.vertex_base_url or None,
                timeout=int(self._settings.llm_total_timeout_s * 1000),
                retry_options=genai.types.HttpRetryOptions(attempts=1),
                aiohttp_client=session,
            ),
        )
        return client

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        system = "\n\n".join(message.content for message in prompt.messages if message.role == "system")
        return {
            "model": self.name,
            "contents": [
                {"role": "model" if message.role == "assistant" else "user", "parts": [{"text": message.content}]}
                for message in prompt.messages
                if message.role != "system"
            ],
            "config": {
                "max_output_tokens": prompt.max_output_tokens,
                "temperature": prompt.temperature,
                "automatic_function_calling": {"disable": True},
                **({"system_instruction": system} if system else {}),
            },
        }


def _noting_session(outbound: Outbound) -> aiohttp.ClientSession:
    """A session over the guarded connections that notes each answer in `_OPENED`."""

    async def note(_: aiohttp.ClientSession, __: SimpleNamespace, call: aiohttp.TraceRequestEndParams) -> None:
        if (opened := _OPENED.get()) is not None:
            opened.append(call.response)

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(note)
    return aiohttp.ClientSession(
        connector=outbound.session().connector,
        connector_owner=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
        trace_configs=[trace],
    )


async def _next(
    chunks: AsyncIterator["GenerateContentResponse"], opened: list[aiohttp.ClientResponse], seconds: float
) -> "GenerateContentResponse | None":
    """The next chunk, or None at the end. Raises TimeoutError after `seconds`."""
    token = _OPENED.set(opened)
    try:
        async with asyncio.timeout(max(seconds, 0)):
            return await anext(chunks, None)
    finally:
        _OPENED.reset(token)


@dataclass
class _Answer:
    """What has been said so far."""

    prompt: Prompt
    written: int = 0
    finish: FinishReason | None = None
    counted: tuple[int, int] | None = None

    @property
    def full(self) -> bool:
        """Whether more was said than the limit allows for."""
        return self.written >= self.prompt.max_output_tokens * CHARACTERS_OF_LONGEST_TOKEN

    def take(self, chunk: "GenerateContentResponse") -> Delta | None:
        """The text in `chunk`, without thoughts."""
        used = chunk.usage_metadata
        if used is not None and used.prompt_token_count is not None:
            self.counted = (used.prompt_token_count, (used.candidates_token_count or 0) + (used.thoughts_token_count or 0))
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason is not None:
            self.finish = "content_filter"
        if not chunk.candidates:
            return None
        candidate = chunk.candidates[0]
        if candidate.finish_reason is not None:
            self.finish = _FINISH.get(candidate.finish_reason.name, "other")
        parts = (candidate.content.parts if candidate.content is not None else None) or []
        room = self.prompt.max_output_tokens * CHARACTERS_OF_LONGEST_TOKEN - self.written
        text = sound_text("".join(part.text for part in parts if part.text and not part.thought)[:room])
        self.written += len(text)
        return Delta(text) if text else None

    def usage(self) -> Usage:
        """The model's own count, or an estimate. Raises ModelError if the answer broke off."""
        if self.full:
            self.finish = "length"
        if self.finish is None:
            raise ModelError(ErrorCode.SERVICE_UNAVAILABLE, "The language model broke off its answer. Try again.", "broken")
        if self.counted is None:
            return estimated_usage(self.prompt, self.written, self.finish)
        return Usage(*self.counted, estimated=False, finish_reason=self.finish)


def _library_errors() -> tuple[type[Exception], ...]:
    """What google-genai and google-auth raise, if they were ever imported."""
    named = (("google.genai.errors", "APIError"), ("google.auth.exceptions", "GoogleAuthError"))
    return tuple(getattr(sys.modules[module], name) for module, name in named if module in sys.modules)


def _errors() -> tuple[type[Exception], ...]:
    """Every way in which a call through the library fails."""
    return (ModelError, aiohttp.ClientError, OSError, ValueError, RuntimeError, *_library_errors())


def _failed(error: Exception) -> ModelError:
    """`error` for the client: its own words may hold the prompt, so only its kind and status are told."""
    if isinstance(error, ModelError):
        return error
    if isinstance(error, TimeoutError):
        return _too_slow()
    if type(error).__module__.startswith("google.auth") or (isinstance(error, RuntimeError) and "token" in str(error)):
        return _no_credentials("")
    if isinstance(error, aiohttp.ClientError | OSError):
        return ModelError(ErrorCode.SERVICE_UNAVAILABLE, "The language model cannot be reached. Try again.", "unreachable")
    status = getattr(error, "code", None)
    said = f" (HTTP {status})" if isinstance(status, int) else ""
    if status in (401, 403):
        return _no_credentials(said)
    if status in (408, 499, 504):
        return _too_slow()
    if status == 429:
        return ModelError(
            ErrorCode.SERVICE_UNAVAILABLE, f"The language model takes no more requests at present{said}. Try later.", "rate_limited"
        )
    if status == 404:
        return ModelError(
            ErrorCode.INTEGRATION_UNAVAILABLE,
            f"There is no such language model{said}. Check GEMINI_MODEL and GOOGLE_CLOUD_LOCATION.",
            "refused",
        )
    if isinstance(status, int) and status < 500:
        return ModelError(ErrorCode.INTEGRATION_UNAVAILABLE, f"The language model refused the request{said}.", "refused")
    return ModelError(ErrorCode.SERVICE_UNAVAILABLE, f"The language model failed{said}. Try again.", "broken")


def _no_credentials(said: str) -> ModelError:
    return ModelError(
        ErrorCode.VERTEX_AUTH_ERROR,
        f"Google credentials are missing or were refused{said}. Check GOOGLE_APPLICATION_CREDENTIALS and the account's rights.",
        "auth",
    )


def _too_slow() -> ModelError:
    return ModelError(ErrorCode.VERTEX_TIMEOUT, "The language model did not answer in time. Try again.", "timeout")
