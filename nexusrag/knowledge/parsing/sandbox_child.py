"""The parser process: `python -m nexusrag.knowledge.parsing.sandbox_child`, started by `Sandbox` alone.

Takes one document after the other from its socket, as an open descriptor, and answers with chunks or a reason. Writes nothing
anywhere else: a document's text must not reach a log.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

import nexusrag
from nexusrag.knowledge.parsing.chunking import Chunk, iter_chunks
from nexusrag.knowledge.parsing.formats import registry
from nexusrag.knowledge.parsing.formats.model import ParsedDocument, ParseError, ParseLimits
from nexusrag.knowledge.parsing.sandbox_limits import allow_cpu, confine
from nexusrag.knowledge.parsing.sandbox_wire import HEADER, ChildLimits, Request, frame

_BATCH = 100
_PROGRESS_S = 0.2

Send = Callable[[dict[str, Any]], None]


def main() -> None:
    """Arguments: descriptor of the socket, pid of the parent, limits as JSON."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    limits = ChildLimits(**orjson.loads(sys.argv[3]))
    package = Path(nexusrag.__file__).parent
    root = str(package.parent)
    readable = [package, *(Path(entry) for entry in sys.path if entry and entry != root)]
    granted = confine(int(sys.argv[2]), limits.memory_mb, readable)

    def send(message: dict[str, Any]) -> None:
        channel.sendall(frame(message))

    send({"ready": granted})
    while (received := _receive(channel)) is not None:
        request, descriptor = received
        allow_cpu(limits.cpu_seconds)
        send(_serve(request, descriptor, limits, send))


def _receive(channel: socket.socket) -> tuple[Request, int] | None:
    """The next document, None when the parent has closed the socket."""
    head, descriptors, _, _ = socket.recv_fds(channel, HEADER.size, 1)
    if not head:
        return None
    while len(head) < HEADER.size:
        head += channel.recv(HEADER.size - len(head))
    body = b""
    left = HEADER.unpack(head)[0]
    while len(body) < left:
        if not (piece := channel.recv(left - len(body))):
            return None
        body += piece
    return Request(**orjson.loads(body)), descriptors[0]


def _serve(request: Request, descriptor: int, limits: ChildLimits, send: Send) -> dict[str, Any]:
    """Parse one document and send its chunks. Returns the last message about it."""
    watch = _Watch(send)
    try:
        with os.fdopen(descriptor, "rb") as source:
            parsed = registry.parse(
                request.media_type, source, ParseLimits(limits.max_pages, limits.max_chars, limits.table_seconds), watch.page
            )
        return _send_chunks(parsed, request, limits, watch)
    except ParseError as error:
        return {"failed": error.reason}
    except MemoryError:
        return {"memory": True}
    except Exception as error:
        # This process ends here: after a fault that no parser foresaw it is not used again. What it prints goes nowhere.
        watch.send({"fault": _place(error)})
        raise


def _send_chunks(parsed: ParsedDocument, request: Request, limits: ChildLimits, watch: "_Watch") -> dict[str, Any]:
    chunks: Iterator[Chunk] = iter_chunks(parsed, request.size_chars, request.overlap_chars)
    while batch := [
        [chunk.text, chunk.start, chunk.page, chunk.page_end, chunk.heading_path, chunk.table_header] for chunk in islice(chunks, _BATCH)
    ]:
        watch.chunks += len(batch)
        if watch.chunks > limits.max_chunks:
            raise ParseError(f"The document makes more than {limits.max_chunks:,} chunks; use a larger chunk size, or split it.")
        watch.send({"chunks": batch})
    return {"done": {"pages": parsed.pages, "chars": len(parsed.text), "meta": dict(parsed.meta)}}


class _Watch:
    """Reports progress, not more often than is worth reading."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.chunks = 0
        self._next = time.monotonic() + _PROGRESS_S

    def page(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_S
            self.send({"progress": [done, total]})


def _place(error: Exception) -> str:
    """Type and place of an error. Never its message, which may quote the document."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"


if __name__ == "__main__":
    main()
