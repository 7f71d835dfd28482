"""Gemini through the real google-genai library, against a local server that speaks its protocol."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from google.auth.credentials import Credentials

from nexusrag.infra.outbound import Outbound
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ErrorCode
from nexusrag.providers.llm.port import Delta, ModelError, Usage
from nexusrag.providers.llm.vertex import VertexModel
from nexusrag.settings.llm import LlmSettings
from tests.providers.llm.helpers import SECRET_WORDS, prompt, read, until

pytestmark = pytest.mark.slow

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Token(Credentials):
    """Credentials that are valid without asking anybody."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = "canary-token"
        self.expiry = (clock.now() + timedelta(hours=1)).replace(tzinfo=None)

    def refresh(self, request: Any) -> None: ...


class VertexStandIn:
    """Answers each streamGenerateContent with the next of `answers`."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.open = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.open += 1
        try:
            self.requests.append((request.path_qs, dict(request.headers), await request.json()))
            return await self.answers.pop(0)(request)
        finally:
            self.open -= 1


@pytest.fixture
async def vertex() -> AsyncIterator[VertexStandIn]:
    stand_in = VertexStandIn()
    app = web.Application()
    app.router.add_post("/{rest:.*}", stand_in.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stand_in.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield stand_in
    await runner.cleanup()


@pytest.fixture
async def model(vertex: VertexStandIn, outbound: Outbound) -> AsyncIterator[VertexModel]:
    made = VertexModel(settings(vertex), outbound, credentials=Token())
    yield made
    await made.close()


def settings(vertex: VertexStandIn, **given: Any) -> LlmSettings:
    base = {
        "llm_provider": "vertex",
        "google_cloud_project": "p1",
        "google_cloud_location": "europe-west4",
        "gemini_model": "gemini-test",
        "vertex_base_url": vertex.url,
    }
    return LlmSettings(**{**base, **given})


def part(text: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, **more}]}


END = {**part(".", finishReason="STOP"), "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3}}


def said(*chunks: dict[str, Any], hang: bool = False, cut: bool = False) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n")
        if hang:
            await asyncio.Event().wait()
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    return answer


def refused(status: int) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        message = f"{request.headers['Authorization']} {await request.text()}"
        return web.json_response({"error": {"code": status, "message": message, "status": "X"}}, status=status)

    return answer


async def test_chunks_become_deltas_and_the_model_counts(vertex: VertexStandIn, model: VertexModel) -> None:
    thought = {"candidates": [{"content": {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": " b é😀"}]}}]}
    vertex.answers = [said(part("a"), thought, END)]
    assert await read(model) == (["a", " b é😀", "."], Usage(7, 3, estimated=False))
    path, headers, body = vertex.requests[0]
    assert "/projects/p1/locations/europe-west4/publishers/google/models/gemini-test:streamGenerateContent?alt=sse" in path
    assert headers["Authorization"] == "Bearer canary-token"
    assert body["contents"] == [{"role": "user", "parts": [{"text": prompt().question}]}]
    assert body["systemInstruction"]["parts"] == [{"text": "Answer from the passages."}]
    assert body["generationConfig"]["maxOutputTokens"] == 64


async def test_a_blocked_prompt_is_an_empty_answer_that_says_why(vertex: VertexStandIn, model: VertexModel) -> None:
    vertex.answers = [said({"promptFeedback": {"blockReason": "SAFETY"}})]
    pieces, used = await read(model)
    assert (pieces, used.finish_reason, used.estimated) == ([], "content_filter", True)


@pytest.mark.parametrize(
    ("status", "code", "reason", "asked"),
    [
        (400, ErrorCode.INTEGRATION_UNAVAILABLE, "refused", 1),
        (401, ErrorCode.VERTEX_AUTH_ERROR, "auth", 1),
        (403, ErrorCode.VERTEX_AUTH_ERROR, "auth", 1),
        (404, ErrorCode.INTEGRATION_UNAVAILABLE, "refused", 1),
        (429, ErrorCode.SERVICE_UNAVAILABLE, "rate_limited", 2),
        (500, ErrorCode.SERVICE_UNAVAILABLE, "broken", 2),
        (504, ErrorCode.VERTEX_TIMEOUT, "timeout", 1),
    ],
)
async def test_refusals_have_codes_and_give_nothing_away(
    vertex: VertexStandIn, model: VertexModel, status: int, code: ErrorCode, reason: str, asked: int
) -> None:
    vertex.answers = [refused(status)] * 2
    with pytest.raises(ModelError) as failure:
        await read(model)
    assert (failure.value.code, failure.value.reason, len(vertex.requests)) == (code, reason, asked)
    assert "canary" not in f"{failure.value.message} {failure.value.details}"
    assert SECRET_WORDS not in f"{failure.value.message} {failure.value.details}"


async def test_a_passing_fault_before_the_first_token_is_asked_again_and_none_after_it(vertex: VertexStandIn, model: VertexModel) -> None:
    vertex.answers = [refused(503), said(END)]
    assert (await read(model))[0] == ["."]
    for broken in (said(part("a"), cut=True), said(part("a")), said(part("a"), {"error": {"code": 500, "message": SECRET_WORDS}})):
        vertex.requests.clear()
        vertex.answers = [broken, said(END)]
        with pytest.raises(ModelError) as failure:
            await read(model)
        assert len(vertex.requests) == 1
        assert failure.value.code is ErrorCode.SERVICE_UNAVAILABLE
        assert SECRET_WORDS not in failure.value.message


async def test_silence_before_and_after_the_first_token_is_a_timeout(vertex: VertexStandIn, outbound: Outbound) -> None:
    hasty = VertexModel(settings(vertex, llm_first_token_timeout_s=0.3, llm_stall_timeout_s=0.3), outbound, credentials=Token())
    vertex.answers = [said(END)]
    await read(VertexModel(settings(vertex), outbound, credentials=Token()))  # the import is not what is timed here
    for silent in (said(hang=True), said(part("a"), hang=True)):
        vertex.answers = [silent]
        with pytest.raises(ModelError) as failure:
            await read(hasty)
        assert failure.value.code is ErrorCode.VERTEX_TIMEOUT
        await until(lambda: vertex.open == 0)
    await hasty.close()


async def test_closing_and_cancelling_stop_the_model(vertex: VertexStandIn, model: VertexModel) -> None:
    vertex.answers = [said(part("a"), hang=True)] * 2
    stream = model.stream(prompt())
    assert await anext(stream) == Delta("a")
    await stream.aclose()
    await until(lambda: vertex.open == 0)
    reader = asyncio.create_task(read(model))
    await until(lambda: vertex.open == 1)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await until(lambda: vertex.open == 0)


@pytest.mark.parametrize("missing", ["google_cloud_project", "google_cloud_location"])
async def test_missing_configuration_is_named_without_calling_anybody(vertex: VertexStandIn, outbound: Outbound, missing: str) -> None:
    model = VertexModel(settings(vertex, **{missing: ""}), outbound, credentials=Token())
    with pytest.raises(ModelError, match="GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION") as failure:
        await read(model)
    assert (failure.value.code, vertex.requests) == (ErrorCode.VERTEX_CONFIG_MISSING, [])


async def test_missing_credentials_are_an_authorization_error(
    vertex: VertexStandIn, outbound: Outbound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    model = VertexModel(settings(vertex), outbound)
    for _ in range(2):
        with pytest.raises(ModelError) as failure:
            await read(model)
        assert failure.value.code is ErrorCode.VERTEX_AUTH_ERROR
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ModelError) as failure:
        await read(VertexModel(settings(vertex), outbound))
    assert failure.value.code is ErrorCode.VERTEX_AUTH_ERROR
    assert str(tmp_path) not in failure.value.message
    assert vertex.requests == []


async def test_an_address_outside_the_rules_gets_no_connection(vertex: VertexStandIn) -> None:
    guarded = Outbound()
    model = VertexModel(settings(vertex), guarded, credentials=Token())
    with pytest.raises(ModelError) as failure:
        await read(model)
    await model.close()
    await guarded.close()
    assert failure.value.reason == "unreachable"
    assert vertex.requests == []
