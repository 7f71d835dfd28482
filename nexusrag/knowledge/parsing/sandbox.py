"""Parses and chunks documents in processes of their own, which are limited, reused while they behave, and replaced when they do not.

A document that crashes, hangs or fills memory fails alone. What a child says is checked; the hash of a chunk is computed here.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from math import ceil
from pathlib import Path
from signal import SIGABRT, SIGKILL, SIGXCPU
from types import TracebackType
from typing import Any, BinaryIO, Self

import orjson

import nexusrag
from nexusrag.knowledge.parsing.chunking import Chunk, make_chunk
from nexusrag.knowledge.parsing.formats.model import MetaValue, ParseError
from nexusrag.knowledge.parsing.sandbox_wire import HEADER, MAX_FRAME, ChildLimits, Request, frame
from nexusrag.settings.ingestion import IngestionSettings

_START_SECONDS = 30.0
_MAX_DOCUMENTS = 500
_MAX_RESIDENT = 96 * 1024 * 1024
_CRASHED = "The document could not be read: it made the parser fail. Open it, save it again and upload it again."


class ParseCrash(ParseError):
    """The document ended or broke its parser. `detail` says how, for the log; it holds nothing of the document."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.detail = detail


class SandboxUnavailable(Exception):
    """No parser process could be started. The document is not at fault: try again later."""


@dataclass(frozen=True, slots=True)
class ChunkParams:
    """Size and overlap of chunks, in characters."""

    size_chars: int
    overlap_chars: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a document is: pages read of pages in all (0 where the format has none), chunks made."""

    pages_done: int
    pages: int
    chunks: int


@dataclass(frozen=True, slots=True)
class ParsedResult:
    """A document cut into chunks. `chars` is the length of its canonical text."""

    chunks: list[Chunk]
    pages: int | None
    chars: int
    meta: Mapping[str, MetaValue] = field(default_factory=dict)


OnProgress = Callable[[Progress], None]


class Sandbox:
    """A pool of parser processes. They start when needed and die with this process (more exactly: with the thread of its event loop)."""

    def __init__(self, settings: IngestionSettings, size: int | None = None) -> None:
        self._timeout = settings.parse_timeout_s
        self._limits = ChildLimits(
            memory_mb=settings.parse_memory_mb,
            cpu_seconds=ceil(settings.parse_timeout_s),
            max_pages=settings.parse_max_pages,
            max_chars=settings.parse_max_text_chars,
            max_chunks=settings.parse_max_chunks,
            table_seconds=settings.parse_timeout_s / 3,
        )
        self._slots = asyncio.Semaphore(size or settings.parse_processes)
        self._idle: list[_Child] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def run(self, source: BinaryIO, media_type: str, params: ChunkParams, progress: OnProgress | None = None) -> ParsedResult:
        """Chunks of the open file `source`, parsed as `media_type` (from `registry.detect`).

        Raises ParseError with a reason for the uploader (ParseCrash when the parser died of it), SandboxUnavailable, OSError when
        the file cannot be opened.
        """
        async with self._slots:
            child = await self._child()
            keep = False
            try:
                async with asyncio.timeout(self._timeout):
                    result = await child.run(source, Request(media_type, params.size_chars, params.overlap_chars), self._limits, progress)
                keep = True
                return result
            except TimeoutError as error:
                raise self._too_slow("timeout") from error
            except _Gone:
                raise await self._cause(child) from None
            except ParseError as error:
                keep = not isinstance(error, ParseCrash)
                raise
            finally:
                if keep and not self._closed and not child.worn():
                    self._idle.append(child)
                else:
                    await child.stop()

    async def close(self) -> None:
        """End all idle children now and busy ones when they are done."""
        self._closed = True
        while self._idle:
            await self._idle.pop().stop()

    def pids(self) -> list[int]:
        """Process ids of the idle children."""
        return [child.process.pid for child in self._idle]

    async def _child(self) -> "_Child":
        while self._idle:
            child = self._idle.pop()
            if child.process.poll() is None:
                return child
            await child.stop()
        return await _Child.start(self._limits)

    def _too_slow(self, detail: str) -> ParseCrash:
        return ParseCrash(f"Reading the document took longer than {self._timeout:g} seconds; split it and upload the parts.", detail)

    async def _cause(self, child: "_Child") -> ParseError:
        """Why a child went away in the middle of a document."""
        code = await child.stop(gently=True)
        if code == -SIGXCPU:
            return self._too_slow("processor time")
        if code == -SIGKILL:
            return _out_of_memory(self._limits)
        if code == -SIGABRT:  # how PDFium ends when memory is refused, but also other faults
            reason = f"The document needs more than {self._limits.memory_mb} MB of memory or is damaged; save it again, or split it."
            return ParseCrash(reason, "abort")
        return ParseCrash(_CRASHED, f"exit {code}")


class _Gone(Exception):
    """The child closed its socket."""


def _out_of_memory(limits: ChildLimits) -> ParseCrash:
    return ParseCrash(f"Reading the document needs more than {limits.memory_mb} MB of memory; split it and upload the parts.", "memory")


class _Child:
    """One parser process and the socket to it."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self.process = process
        self.granted: dict[str, bool] = {}
        self._channel = channel
        self._documents = 0
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    async def start(cls, limits: ChildLimits) -> "_Child":
        """A child that is confined and ready."""
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                process = _spawn(theirs, limits)
        except OSError as error:
            raise SandboxUnavailable("A parser process could not be started.") from error
        ours.setblocking(False)
        child = cls(process, ours)
        try:
            child._reader, child._writer = await asyncio.open_connection(sock=ours)
            async with asyncio.timeout(_START_SECONDS):
                child.granted = (await child._receive())["ready"]
        except (_Gone, ParseCrash, KeyError, TimeoutError) as error:
            await child.stop()
            raise SandboxUnavailable("A parser process did not become ready.") from error
        except BaseException:
            await child.stop()
            raise
        return child

    async def run(self, source: BinaryIO, request: Request, limits: ChildLimits, progress: OnProgress | None) -> ParsedResult:
        self._documents += 1
        self._ask(source, request)
        chunks: list[Chunk] = []
        chars = 0
        pages = (0, 0)
        while True:
            message = await self._receive()
            try:
                if "chunks" in message:
                    for row in message["chunks"]:
                        chunks.append(_chunk(len(chunks), row))
                        chars += len(chunks[-1].text)
                    # Overlap is at most half a chunk, so three times the text is more than an honest child ever sends.
                    if len(chunks) > limits.max_chunks or chars > 3 * limits.max_chars:
                        raise ValueError("too much")
                elif "progress" in message:
                    pages = (int(message["progress"][0]), int(message["progress"][1]))
                elif "done" in message:
                    return _result(chunks, message["done"])
                else:
                    raise _refusal(message, limits)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                raise ParseCrash(_CRASHED, "malformed answer") from error
            if progress:
                progress(Progress(*pages, len(chunks)))

    def worn(self) -> bool:
        """Whether the child has done enough or grown too much to be used again."""
        return self._documents >= _MAX_DOCUMENTS or self.process.poll() is not None or _resident(self.process.pid) > _MAX_RESIDENT

    async def stop(self, *, gently: bool = False) -> int:
        """End the process, at once or, when it is ending anyway, within a second. Returns its exit code, negative for a signal."""
        if not gently:
            self.process.kill()
        if self._writer:
            self._writer.close()
        else:
            self._channel.close()
        return await asyncio.shield(asyncio.to_thread(_reap, self.process))

    def _ask(self, source: BinaryIO, request: Request) -> None:
        # The child reads on from where the file stands, which it shares with us.
        source.seek(0)
        try:
            socket.send_fds(self._channel, [frame(asdict(request))], [source.fileno()])
        except OSError as error:
            raise _Gone from error

    async def _receive(self) -> dict[str, Any]:
        try:
            (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            if length > MAX_FRAME:
                raise ParseCrash(_CRASHED, "oversized answer")
            message = orjson.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _Gone from error
        except orjson.JSONDecodeError as error:
            raise ParseCrash(_CRASHED, "malformed answer") from error
        if not isinstance(message, dict):
            raise ParseCrash(_CRASHED, "malformed answer")
        return message


def _spawn(channel: socket.socket, limits: ChildLimits) -> subprocess.Popen[bytes]:
    """Start a child with nothing of our environment: it holds secrets."""
    root = Path(nexusrag.__file__).parent.parent
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-B", "-m", "nexusrag.knowledge.parsing.sandbox_child"),
            *(str(channel.fileno()), str(os.getpid()), orjson.dumps(limits).decode()),
        ],
        pass_fds=[channel.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PYTHONPATH": str(root), "PYTHONUTF8": "1", "MALLOC_ARENA_MAX": "1"},
        start_new_session=True,
    )


def _reap(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _resident(pid: int) -> int:
    """Bytes of memory in use, 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _refusal(message: dict[str, Any], limits: ChildLimits) -> ParseError:
    if "failed" in message:
        return ParseError(str(message["failed"])[:500])
    if "memory" in message:
        return _out_of_memory(limits)
    return ParseCrash(_CRASHED, str(message.get("fault", "malformed answer"))[:200])


def _chunk(ord: int, row: list[Any]) -> Chunk:
    """A chunk from what the child says. Raises ValueError or TypeError for anything but the shape that was agreed."""
    text, start, page, page_end, path, header = row
    if not (isinstance(text, str) and text and isinstance(start, int) and start >= 0 and isinstance(header, str)):
        raise ValueError("shape")
    if not (isinstance(path, list) and len(path) <= 6 and all(isinstance(title, str) and len(title) <= 200 for title in path)):
        raise ValueError("path")
    if not all(number is None or (isinstance(number, int) and number > 0) for number in (page, page_end)):
        raise ValueError("page")
    return make_chunk(ord, text, start, (page, page_end), tuple(path), header[:300])


def _result(chunks: list[Chunk], done: dict[str, Any]) -> ParsedResult:
    pages, chars, meta = done["pages"], done["chars"], done["meta"]
    if not ((pages is None or isinstance(pages, int)) and isinstance(chars, int) and isinstance(meta, dict) and len(meta) <= 20):
        raise ValueError("result")
    return ParsedResult(
        chunks, pages, chars, {str(key)[:50]: value if isinstance(value, int) else str(value)[:400] for key, value in meta.items()}
    )
