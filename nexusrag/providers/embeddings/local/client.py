"""The `Embedder` of the model on this machine: finds the embedding process or starts it, and starts it again when it was killed."""

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.embeddings.local.connection import Connection, ConnectionLost
from nexusrag.providers.embeddings.local.spawn import spawn
from nexusrag.providers.embeddings.local.weights import HIDDEN, TOKENS, ModelMissing, model_directory
from nexusrag.providers.embeddings.local.wire import ProtocolError
from nexusrag.providers.embeddings.port import EmbeddingModel, checked

MODEL = EmbeddingModel("local/all-MiniLM-L6-v2", HIDDEN, TOKENS)
# 256 tokens of prose are some 1,200 characters. What comes after this many cannot count unless the text is mostly blanks.
MOST_CHARACTERS = 16_384
# A request takes a second or so, so that callers with bulk work take turns. 64 × 16,384 characters fit a frame even at 4 bytes.
_MOST_TEXTS = 64
# The process computes what lies before it in turns. Were all of a thousand requests there, all would be slow and none done in time.
_BULK_AT_ONCE = 4
_ATTEMPTS = 3
_START_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.02
_REST_AFTER_FAILURE_S = 2.0
_ANSWER_WITHIN_S = {True: 30.0, False: 300.0}


class StartFailed(Exception):
    """The embedding process ended with an error before it served."""


def open_local(socket: Path, log: Path, threads: int) -> "LocalEmbedder":
    """The model behind `socket` (a path of at most 100 bytes), whose process writes to `log` and computes with `threads` threads.

    Nothing is started before the first call.
    """
    return LocalEmbedder(socket.absolute(), log.absolute(), threads)


class LocalEmbedder:
    """An `Embedder`. All of one home share one process; whoever finds none starts it."""

    model = MODEL

    def __init__(self, socket: Path, log: Path, threads: int) -> None:
        self._socket = socket
        self._log = log
        self._threads = threads
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._failure: tuple[float, str] | None = None
        self._closed = False
        self._bulk = asyncio.Semaphore(_BULK_AT_ONCE)

    async def embed(self, texts: Sequence[str], *, urgent: bool = False, tenant_id: str = "") -> NDArray[np.float32]:
        """Vectors of `texts`, shape (len(texts), 384). Of each text, the first 256 tokens count."""
        vectors = np.empty((len(texts), HIDDEN), np.float32)
        for rows in _portions(texts):
            portion = [texts[row][:MOST_CHARACTERS] for row in rows]
            if urgent:
                vectors[rows] = await self._ask(portion, urgent)
            else:
                async with self._bulk:
                    vectors[rows] = await self._ask(portion, urgent)
        return checked(MODEL, len(texts), vectors)

    async def close(self) -> None:
        """Hang up. The process goes on for the others, and ends 5 s after the last one left."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()
        if self._child is not None and self._child.poll() is None:
            self._child.returncode = 0  # it outlives us on purpose: keeps its destructor from warning

    async def _ask(self, texts: list[str], urgent: bool) -> NDArray[np.float32]:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S[urgent]):
                for _ in range(_ATTEMPTS):
                    connection = await self._connected()
                    try:
                        return await connection.ask(texts, urgent=urgent)
                    except ConnectionLost:
                        continue  # killed: the same texts give the same vectors from its successor
        except TimeoutError as error:
            raise _unavailable("The embedding process is too slow. Try again later.") from error
        except ProtocolError as error:
            raise _unavailable("The embedding process answered with nonsense. Restart NexusRAG.") from error
        raise _unavailable("The embedding process ends again and again. Its log says why.")

    async def _connected(self) -> Connection:
        if self._closed:
            raise _unavailable("The embedding model is closed: this process is ending. Try again.")
        if self._connection is not None and not self._connection.lost:
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_seen)
        # Shared by all who wait, so the cancel of one must not reach it. Closing cancels it for all.
        connecting = self._connecting
        await asyncio.wait({connecting})
        if connecting.cancelled():
            raise _unavailable("The embedding model is closed: this process is ending. Try again.")
        return connecting.result()

    async def _connect(self) -> Connection:
        if self._failure is not None and monotonic() - self._failure[0] < _REST_AFTER_FAILURE_S:
            raise _unavailable(self._failure[1])
        try:
            async with asyncio.timeout(_START_WITHIN_S):
                self._connection = await self._find_or_start()
        except (OSError, ProtocolError, ModelMissing, StartFailed) as error:
            self._failure = (monotonic(), _explained(error))
            raise _unavailable(self._failure[1]) from error
        return self._connection

    async def _find_or_start(self) -> Connection:
        while True:
            try:
                return await Connection.open(self._socket)
            except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError, ConnectionLost):
                pass  # nobody serves, or whoever did is just ending
            if self._child is None or self._child_ended(self._child):
                model_directory()  # says what is missing before a process is started for nothing
                self._child = spawn(self._socket, self._log, self._threads)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _child_ended(self, child: subprocess.Popen[bytes]) -> bool:
        """Whether it is gone in order, or killed: then another may be started. Raises StartFailed when it failed by itself."""
        code = child.poll()
        if code is None:
            return False
        self._child = None
        if code > 0:
            raise StartFailed
        return True


def _portions(texts: Sequence[str]) -> Iterator[list[int]]:
    """Rows of `texts` in requests, texts of like length together: they share batches without filling."""
    rows = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(rows), _MOST_TEXTS):
        yield rows[start : start + _MOST_TEXTS]


def _explained(error: Exception) -> str:
    if isinstance(error, ModelMissing):
        return str(error)
    if isinstance(error, StartFailed):
        return "The embedding process cannot start. The end of its log (run/embed.log in the home) says why."
    if isinstance(error, ProtocolError):
        return "The embedding process of another version of NexusRAG serves this home. Stop that version."
    if isinstance(error, TimeoutError):
        return "The embedding process does not answer. Stop it and try again."
    return "The embedding process cannot be started. Check the directory `run` in the home, the disk and the permissions."


def _seen(task: "asyncio.Task[Connection]") -> None:
    """Whoever waited has its error; should all of them have been cancelled, it is no news for the log."""
    if not task.cancelled():
        task.exception()


def _unavailable(message: str) -> ApiError:
    return ApiError(ErrorCode.SERVICE_UNAVAILABLE, message)
