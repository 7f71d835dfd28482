"""Server-sent events: how one is framed, and the answer that sends them and lets go of readers that are gone or stalled."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

import orjson
from fastapi import Response
from starlette.types import Message, Receive, Scope, Send

from nexusrag.kernel.errors import ApiError

TRANSPORT_KEY = "nexusrag.transport"
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


def frame(event: str, event_id: str, payload: Any) -> str:
    """One event. JSON holds no raw line break, so one `data` line is enough."""
    return f"id: {event_id}\nevent: {event}\ndata: {orjson.dumps(payload).decode()}\n\n"


def refused(error: ApiError, request_id: str, told: tuple[str, Mapping[str, Any]]) -> Response:
    """A refusal, with its status, for a client that asked for a stream and nothing else: what happened, the error, the end."""
    told_error = ("error", {"code": error.code.value, "message": error.message})
    frames = [
        frame(event, f"{request_id}.{seq}", {"type": event, "request_id": request_id, "session_id": None, "seq": seq, "data": data})
        for seq, (event, data) in enumerate((told, told_error, ("done", {})), 1)
    ]
    headers = {**_HEADERS, **error.headers, "X-Request-Id": request_id}
    return Response("".join(frames), status_code=error.status, headers=headers)


class EventStream(Response):
    """Sends what `chunks` yields until it ends, the reader goes away, or takes nothing for `stall_s` seconds.

    `closed` is called exactly once, however it ended, and then `over`.
    """

    over: Callable[[], Awaitable[None]] | None = None
    first_at: float | None = None  # when the first event went out (`perf_counter`)
    complete = False  # all of it was sent

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], *, stall_s: float, closed: Callable[[], None], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(headers={**_HEADERS, **(headers or {})})
        del self.headers["content-length"]
        self._chunks = chunks
        self._stall_s = stall_s
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope.get(TRANSPORT_KEY)
        if transport is not None:
            transport.has_own_limit = True
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                return
            if isinstance(sending.exception(), TimeoutError):
                # What is still buffered for a stalled reader is dropped with its connection.
                if transport is not None:
                    transport.abort()
            elif (error := sending.exception()) is not None and not isinstance(error, OSError):
                raise error
        finally:
            if transport is not None:
                transport.has_own_limit = False
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            self._closed()
            if self.over is not None:
                await asyncio.shield(self.over())

    async def _send_all(self, send: Send) -> None:
        await self._send(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with contextlib.aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                await self._send(send, {"type": "http.response.body", "body": chunk, "more_body": True})
                self.first_at = self.first_at or perf_counter()
        await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        self.complete = True

    async def _send(self, send: Send, message: Message) -> None:
        async with asyncio.timeout(self._stall_s):
            await send(message)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
