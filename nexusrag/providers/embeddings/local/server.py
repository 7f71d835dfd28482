"""The embedding process: `python -m nexusrag.providers.embeddings.local.server --socket PATH --threads N`.

It serves until nobody has been connected for 5 s or its socket file is gone. A lock beside the socket, held for as long as the
process lives and handed over by whoever started it, makes it the only one.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic

from nexusrag.providers.embeddings.local import memory
from nexusrag.providers.embeddings.local.lock import take_lock
from nexusrag.providers.embeddings.local.scheduler import Job, Model, Scheduler
from nexusrag.providers.embeddings.local.weights import Floats, ModelMissing
from nexusrag.providers.embeddings.local.wire import GREETING, Frame, Kind, ProtocolError, pack, read_frame, unpack_texts

EXIT_MODEL_MISSING = 69
EXIT_ALREADY_SERVED = 75
_UNUSED_S = 5.0
_LOOK_EVERY_S = 0.5
# A peer that sends or leaves unread more than this is broken; our client stays far below.
_MOST_WAITING = 64 * 1024 * 1024

log = logging.getLogger("nexusrag.embed")


class _Peer:
    """One connection. Its requests are answered as they finish and dropped when it goes away."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, submit: Callable[[Job], None]) -> None:
        self._reader = reader
        self._writer = writer
        self._submit = submit
        self._jobs: dict[int, tuple[Job, int]] = {}
        self._waiting = 0
        self.asked = False

    async def serve(self) -> None:
        """Until the other side hangs up, or talks nonsense."""
        self._writer.write(pack(Kind.HELLO, payload=GREETING))
        try:
            while True:
                self._take(await read_frame(self._reader))
        except ProtocolError as error:
            log.warning("closing a connection that sent %s", error)
            self._writer.write(pack(Kind.REFUSED, payload=str(error).encode()))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            for request in list(self._jobs):
                self._drop(request)
            self._writer.close()

    def _take(self, frame: Frame) -> None:
        if frame.kind is Kind.CANCEL:
            self._drop(frame.request)
        elif frame.kind not in (Kind.URGENT, Kind.BULK) or frame.request in self._jobs:
            raise ProtocolError(f"{frame.kind.name} out of place")
        else:
            self._waiting += len(frame.payload)
            if self._waiting > _MOST_WAITING:
                raise ProtocolError("more than may wait")
            answer = partial(self._answer, frame.request)
            done = partial(asyncio.get_running_loop().call_soon_threadsafe, answer)
            job = Job(unpack_texts(frame.payload), frame.kind is Kind.URGENT, done)
            self.asked = True
            self._jobs[frame.request] = (job, len(frame.payload))
            self._submit(job)

    def _answer(self, request: int, vectors: Floats) -> None:
        if self._drop(request):
            self._writer.write(pack(Kind.VECTORS, request, vectors.tobytes()))
            if self._writer.transport.get_write_buffer_size() > _MOST_WAITING:
                self._writer.transport.abort()

    def _drop(self, request: int) -> bool:
        job, size = self._jobs.pop(request, (None, 0))
        self._waiting -= size
        if job is not None:
            job.cancelled = True
        return job is not None


class Server:
    """The socket, its connections, and the reasons to end."""

    def __init__(self, model: Model, path: Path, threads: int) -> None:
        self._path = path
        self._ended = asyncio.Event()
        self._scheduler = Scheduler(model, partial(asyncio.get_running_loop().call_soon_threadsafe, self.end), threads)
        self._connections = 0
        self._unused_since = monotonic()

    async def run(self) -> None:
        """Serve until there is a reason to end."""
        self._path.unlink(missing_ok=True)  # of a killed predecessor: we hold the lock
        server = await asyncio.start_unix_server(self._accept, self._path)
        born = self._inode()
        self._scheduler.start()
        log.info("serving, process %d", os.getpid())
        self._unused_since = monotonic()
        while not self._ended.is_set() and self._wanted(born):
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._ended.wait()
            except TimeoutError:
                pass
        if self._inode() == born:
            self._path.unlink(missing_ok=True)
        server.close()
        self._scheduler.stop()
        log.info("ended")

    def end(self) -> None:
        """Make `run` return, soon. Requests under way are dropped: their clients ask the next process."""
        self._ended.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _Peer(reader, writer, self._scheduler.submit)
        self._connections += 1
        try:
            await peer.serve()
        finally:
            self._connections -= 1
            # Clients of another version look in, dislike the greeting and leave: they must not keep this process alive.
            if peer.asked:
                self._unused_since = monotonic()

    def _wanted(self, born: tuple[int, int] | None) -> bool:
        unused = not self._connections and monotonic() - self._unused_since > _UNUSED_S
        return not unused and self._inode() == born

    def _inode(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


async def _serve(model: Model, path: Path, threads: int) -> None:
    server = Server(model, path, threads)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.end)
    await server.run()


def main(arguments: list[str]) -> int:
    """Serve, and return the exit code of the process."""
    parser = argparse.ArgumentParser(prog="nexusrag-embed")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--lock", type=int, help="descriptor of the lock, already taken")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    os.umask(0o077)
    if given.lock is not None:
        os.set_inheritable(given.lock, False)
    elif take_lock(given.socket) is None:
        log.error("another process serves %s", given.socket)
        return EXIT_ALREADY_SERVED
    memory.keep_freed()
    # Imported after the heap is set up: the libraries behind it allocate as they load.
    from nexusrag.providers.embeddings.local.model import MiniLM  # noqa: PLC0415

    try:
        model = MiniLM()
    except ModelMissing as error:
        log.error("%s", error)
        return EXIT_MODEL_MISSING
    asyncio.run(_serve(model, given.socket, given.threads))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
