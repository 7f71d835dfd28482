"""uvicorn as we run it: httptools (strict about framing), bounded heads, and the connection at hand for cutting off stalled readers."""

import asyncio
import fcntl
import signal
import socket
import sys
import termios
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from nexusrag.infra.loop import new_loop
from nexusrag.settings import Settings
from nexusrag.web.door import Door, Head
from nexusrag.web.sse import TRANSPORT_KEY

# The head of a request is its first line and its headers.
_HEAD_BYTES = 64 * 1024
_HEAD_LINES = 100
_HEAD_WITHIN_S = 10.0
# Requests that wait for the answer to one before them. uvicorn reads on with each answer, and one piece can hold ten thousand.
_WAITING = 1000
_PIECE_BYTES = 64 * 1024
# Whoever lets us wait for room, or for the end of a closed connection, takes so much within this time, or is cut off.
_STALL_S = 15.0
_LEAST_BYTES = 32 * 1024

SEEN_KEY = "nexusrag.seen"


class _Refused:
    """Stands where uvicorn has the request that it answers, for one that was answered without."""

    response_complete = True
    disconnected = False
    message_event = asyncio.Event()


class _Gathered(asyncio.Transport):
    """What is written in one turn of the loop goes out in one piece: head and body of an answer are one call of the system.

    A reader that takes too little is cut off: `watch` begins with that.
    """

    has_own_limit = False  # whoever writes cuts off stalled readers by rules of its own

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0
        self._written = 0
        self._look: asyncio.TimerHandle | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(bytes(data))
        self._size += len(data)
        if self._size > _PIECE_BYTES:  # whoever writes that much is told at once when the reader does not keep up
            self._send()

    def write_whole(self, data: bytes) -> None:
        """What has no other part is not gathered."""
        if self._held:
            self.write(data)
        else:
            self._written += len(data)
            self._transport.write(data)

    def close(self) -> None:
        self._send()
        self._transport.close()
        self.watch()

    def watch(self) -> None:
        if self._look is None and self._transport.get_write_buffer_size():
            self._look = self._loop.call_later(_STALL_S, self._look_again, self._taken())

    def unwatch(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_again(self, before: int) -> None:
        self._look = None
        if self.has_own_limit or self._taken() - before >= _LEAST_BYTES:
            self.watch()
        else:
            self.abort()

    def _taken(self) -> int:
        """What has arrived. The system takes more of us only in large steps, megabytes where the way is fast, so it is asked as well."""
        taken = self._written - self._transport.get_write_buffer_size()
        if sys.platform != "linux":
            return taken
        queued = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return taken - int.from_bytes(queued, sys.byteorder)

    def abort(self) -> None:
        self._held, self._size = [], 0
        self.unwatch()
        self._transport.abort()

    def _send(self) -> None:
        held, self._held = self._held, []
        self._written, self._size = self._written + self._size, 0
        if held:
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._transport.get_extra_info(name, default)


class Protocol(HttpToolsProtocol):
    """Puts the transport into the scope of each request; a head that is too large, ambiguous or too slow ends the connection.

    Asks `app.state.door` before anything is made of a request: a task, a scope and the layers of the framework cost several times what
    such an answer costs, and it would have to wait for whatever is ready before it.
    """

    transport: _Gathered
    _silent_bytes = 0  # that came since the parser told of anything: of a line that it keeps, a chunk's extension, empty lines
    _has_asked = False  # for one of this piece: the next goes the ordinary way, where requests wait for each other and reading is paused
    _in_head = True
    _is_between = True  # nothing of a request has come since the last one's end
    _piece = b""  # what has come, where it began between requests
    _at_the_door = 0  # pieces that wait there
    _has_ended = False
    _answered: RequestResponseCycle | None = None
    _head_due: asyncio.TimerHandle | None = None  # while more of a head is awaited

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(_Gathered(transport, self.loop))
        self._seen: dict[bytes, bytes] = {}
        self._door: Door = self.config.app.state.door  # type: ignore[union-attr]  # the application itself, see Server
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_over()
        super().connection_lost(exc)
        if self._answered is not None:  # uvicorn tells the request that came last, which may be one that waits for this one
            self._answered.disconnected = True
            self._answered.message_event.set()
        self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it: whether the loop leaves the connection open
        self._has_ended = True
        if not self._at_the_door:
            self.transport.close()  # the loop would close it without a limit to what is unsent
        return bool(self._at_the_door)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self.transport.unwatch()

    def data_received(self, data: bytes) -> None:
        if self._at_the_door or (self._is_between and self._door.is_crowded()):
            self._at_the_door += 1
            self._door.gather(self._take, data)
        else:
            self._received(data)

    def _take(self, data: bytes) -> None:
        self._at_the_door -= 1
        if self.transport.is_closing():
            return
        try:
            self._received(data)
        except BaseException:  # as the loop does where it calls
            self.transport.abort()
            raise
        if self._has_ended and not self._at_the_door:
            self.transport.close()

    def _received(self, data: bytes) -> None:
        awaited = self.timeout_keep_alive_task
        self._has_asked = False
        if awaited is not None and self._is_between and self._is_refused_again(data):
            return
        self._piece = data if self._is_between else b""
        self._silent_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._silent_bytes > _HEAD_BYTES:
            if self._in_head:
                self.send_400_response("The head of the request is too large.")
            else:
                self.transport.abort()
        elif not self._in_head:
            self._await_next(awaited)
        elif self._head_due is None:  # it mostly comes as a whole, so that nothing is awaited
            self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT_KEY] = self.transport  # type: ignore[literal-required]  # a key of ours
        self.scope[SEEN_KEY] = self._seen  # type: ignore[literal-required]  # and another
        self._unset_keepalive_if_required()  # a refusal in the same piece may have begun that wait
        self._head_over()
        self._in_head, self._is_between = True, False

    def on_headers_complete(self) -> None:
        self._head_over()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        hosts = sum(name == b"host" for name, _ in self.headers)
        if size > _HEAD_BYTES or len(self.headers) > _HEAD_LINES or hosts > 1 or len(self.pipeline) >= _WAITING:
            raise ValueError("not a head that is answered")  # the parser ends in it, which is a 400
        if not self._is_refused():
            super().on_headers_complete()
        self.headers, self._piece = [], b""  # trailers are no headers

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_between = self.parser.should_keep_alive()  # a trailer may have said that nothing follows
        super().on_message_complete()

    def _is_refused(self) -> bool:
        """Whether it was answered here. What is out of the ordinary goes the ordinary way."""
        before: RequestResponseCycle | None = self.cycle
        if self._has_asked or (before is not None and not before.response_complete) or self.flow.write_paused or self.expect_100_continue:
            return False
        method, path = self.parser.get_method(), self.url.partition(b"?")[0]
        if method == b"HEAD" or b"%" in path or self.parser.should_upgrade():
            return False
        if self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return False
        head = Head(method.decode("ascii"), path.decode("ascii"), self.headers, self._seen)
        answer = self._door.refuse(*head)
        if answer is None:
            return False
        if self._piece.startswith(b"%b %b HTTP/1.1\r\n" % (method, self.url)):
            self._door.learn(self._piece, head)
        self._has_asked = True
        self.cycle = _Refused()  # type: ignore[assignment]
        self._answer(answer)
        self.on_response_complete()
        return True

    def _is_refused_again(self, piece: bytes) -> bool:
        """Whether this is a request that the door knows, and was answered here. The parser is between two requests, and stays there."""
        head = self._door.known(piece)
        if head is None or self.flow.write_paused or self.transport.is_closing():
            return False
        self._has_asked = True
        answer = self._door.refuse(*head)
        if answer is None:
            return False
        self._silent_bytes = 0
        self._answer(answer)
        self.on_response_complete()
        return True

    def _answer(self, answer: bytes) -> None:
        status, _, rest = answer.partition(b"\r\n")
        usual = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        self.transport.write_whole(b"%b\r\n%b%b" % (status, usual, rest))

    def _await_next(self, awaited: asyncio.TimerHandle | None) -> None:
        """uvicorn ends the wait for another request at whatever comes, also at an empty line or the late body of a refused request."""
        cycle: RequestResponseCycle | None = self.cycle
        if awaited is not None and self.timeout_keep_alive_task is None and cycle is not None and cycle.response_complete:
            self.timeout_keep_alive_task = self.loop.call_at(awaited.when(), self.timeout_keep_alive_handler)

    def _await_head(self) -> None:
        self._head_due = self.loop.call_later(_HEAD_WITHIN_S, self._head_late)

    def _head_late(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.close()
        else:  # an answer is under way, for which reading may have been paused
            self._await_head()

    def _head_over(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
        self._head_due, self._silent_bytes, self._in_head = None, 0, False


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
        self._app.state.door.let_in()
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
