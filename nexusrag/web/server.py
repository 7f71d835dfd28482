"""uvicorn as we run it: httptools (strict about framing), uvloop, and the connection at hand for cutting off stalled readers."""

import asyncio
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nexusrag.infra.loop import new_loop
from nexusrag.settings import Settings
from nexusrag.web.sse import TRANSPORT_KEY


class Protocol(HttpToolsProtocol):
    """Puts the transport into the scope of each request."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT_KEY] = self.transport  # type: ignore[literal-required]  # a key of ours


class Server(uvicorn.Server):
    """A server whose signals are handled by whoever runs it, and whose streams have an end when it stops."""

    def __init__(self, app: FastAPI, settings: Settings, *, fd: int | None = None) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.web.api_host,
                port=settings.web.api_port,
                fd=fd,
                http=Protocol,
                ws="none",
                loop="uvloop",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=20,
                timeout_graceful_shutdown=8,
                h11_max_incomplete_event_size=None,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Nothing new is accepted; what clients wait for is ended while their connections still stand: the limit would cut them."""
        draining = asyncio.create_task(self._drain())
        try:
            await super().shutdown(sockets)
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)

    async def _drain(self) -> None:
        await asyncio.gather(*(drain(self._app.state.resources) for drain in self._app.state.drains))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A SIGTERM that was obeyed is not raised again, as uvicorn would: whoever runs the server has servers of its own to stop."""
        super().handle_exit(sig, frame)
        self._captured_signals[:] = [number for number in self._captured_signals if number != signal.SIGTERM]


def run(app: FastAPI, settings: Settings) -> int:
    """Serve until a signal; 0 when the server had started."""
    server = Server(app, settings)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(server.serve())
    return 0 if server.started else 3
