"""A local server that speaks the OpenAI protocol: chat completions (streamed or not), embeddings and speech, with switchable faults.

Each request takes the next of `behaviours`, or the default when none is left. A behaviour is a coroutine function of (request, body) that
answers; the functions at the end of this file make the usual ones.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from aiohttp import web

Behaviour = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]

WORDS = ["The ", "answer ", "is ", "forty-two ", "[1]."]
MP3 = b"\xff\xfb\x90\x00" + bytes(413)


class OpenAIStandIn:
    """The server. `requests` holds the bodies it received, `open` the number of requests being answered."""

    def __init__(self) -> None:
        self.behaviours: list[Behaviour] = []
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.open = 0
        self.cancelled = 0
        self.dimensions = 8
        self.chat: Behaviour | None = None  # what answers a chat when no behaviour is left
        self.packs = True  # whether it knows the base64 form of vectors
        self.url = ""
        # Tokens read and written of each call that named itself, and those that are not over.
        self.invoices: dict[str, tuple[int, int]] = {}
        self.invoicing: set[str] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._serve(self._chat))
        app.router.add_post("/v1/embeddings", self._serve(self._embeddings))
        app.router.add_post("/v1/audio/speech", self._serve(self._speech))
        app.router.add_get("/v1/usage/{call_id}", self._usage)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _serve(self, default: Behaviour) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.open += 1
            try:
                body = json.loads(await request.read())
                self.requests.append(body)
                self.headers.append(dict(request.headers))
                behaviour = self.behaviours.pop(0) if self.behaviours else default
                return await behaviour(request, body)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self.open -= 1

        return handle

    async def _usage(self, request: web.Request) -> web.StreamResponse:
        call_id = request.match_info["call_id"]
        if call_id in self.invoicing or call_id not in self.invoices:
            return web.json_response({"error": {"message": "unknown"}}, status=404)
        read, wrote = self.invoices[call_id]
        return web.json_response({"usage": {"prompt_tokens": read, "completion_tokens": wrote}})

    def metered(self, tokens: int, *, pause: float = 0.0, cut: bool = False, with_usage: bool = True) -> Behaviour:
        """A stream of so many tokens, each of which is on the caller's invoice once it was sent; cut off after them, or ended properly."""

        async def answer(request: web.Request, body: Any) -> web.StreamResponse:
            call_id = request.headers.get("X-Client-Request-Id", "")
            read = sum(len(message["content"].split()) for message in body["messages"])
            self.invoicing.add(call_id)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            try:
                await response.prepare(request)
                for number in range(tokens):
                    self.invoices[call_id] = (read, number + 1)
                    await response.write(delta(f"word{number} "))
                    await asyncio.sleep(pause)
                if cut and request.transport is not None:
                    request.transport.abort()
                    return response
                await response.write(FINISH + (usage(read, tokens) if with_usage else b"") + DONE)
                await response.write_eof()
                return response
            finally:
                self.invoicing.discard(call_id)

        return answer

    async def _chat(self, request: web.Request, body: Any) -> web.StreamResponse:
        usual = talk() if body.get("stream") else whole("".join(WORDS))
        return await (self.chat or usual)(request, body)

    async def _embeddings(self, request: web.Request, body: Any) -> web.StreamResponse:
        vectors = [embedding(text, self.dimensions) for text in body["input"]]
        if body.get("encoding_format") == "base64" and self.packs:
            packed = [base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode() for vector in vectors]
            rows = [{"object": "embedding", "index": index, "embedding": text} for index, text in enumerate(packed)]
        else:
            rows = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        return web.json_response({"object": "list", "data": rows, "model": body["model"]})

    async def _speech(self, request: web.Request, body: Any) -> web.StreamResponse:
        return web.Response(body=MP3 * 3, content_type="audio/mpeg")


@asynccontextmanager
async def openai_stand_in() -> AsyncIterator[OpenAIStandIn]:
    """A running stand-in on a free port of 127.0.0.1; its `url` ends in /v1."""
    server = OpenAIStandIn()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def embedding(text: str, dimensions: int) -> list[float]:
    """The vector that the stand-in gives `text`: fixed, not normalised."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return [round(float(value), 6) for value in np.random.default_rng(seed).normal(size=dimensions)]


def delta(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def event(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def usage(prompt: int = 11, completion: int = 5) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
DONE = b"data: [DONE]\n\n"


def raw(*writes: bytes, pause: float = 0.0, hang: bool = False, cut: bool = False) -> Behaviour:
    """Sends `writes` one by one as an event stream; then hangs, or cuts the connection in the middle, or ends properly."""

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for write in writes:
            await response.write(write)
            await asyncio.sleep(pause)
        if hang:
            await asyncio.Event().wait()
        if cut and request.transport is not None:
            request.transport.abort()
        await response.write_eof()
        return response

    return answer


def talk(words: list[str] | None = None, *, with_usage: bool = True, pause: float = 0.0) -> Behaviour:
    """A well-behaved stream of `words`."""
    deltas = [delta(word) for word in (WORDS if words is None else words)]
    return raw(*deltas, FINISH, *([usage()] if with_usage else []), DONE, pause=pause)


def whole(text: str) -> Behaviour:
    """A well-behaved answer in one piece."""

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 11, "completion_tokens": 5}})

    return answer


def refuse(status: int, code: str = "some_code", *, param: str | None = None, headers: dict[str, str] | None = None) -> Behaviour:
    """A refusal. Its message repeats the caller's key and words, as careless servers do."""

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        message = f"refused: {request.headers.get('Authorization')} said {json.dumps(body)}"
        return web.json_response(
            {"error": {"message": message, "code": code, "type": "error", "param": param}}, status=status, headers=headers
        )

    return answer


def hang() -> Behaviour:
    """Never answers."""

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    return answer


def endless(piece: bytes, pause: float = 0.001) -> Behaviour:
    """Sends `piece` for ever."""

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(piece)
            await asyncio.sleep(pause)

    return answer


def document(body: bytes, content_type: str = "application/json", status: int = 200, headers: dict[str, str] | None = None) -> Behaviour:
    """Answers `body` as it stands."""

    async def answer(request: web.Request, _: Any) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type, status=status, headers=headers)

    return answer
