"""Objects as files `<root>/objects/<2 hex>/<62 hex>`, the SHA-256 of the key: no key can name another place.

A write goes to `<root>/partial` and is renamed. Writers lock their partial file, so that whoever cleans up, when the store is
opened or a key is cleared, can tell what a crash left behind from what is being written.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.providers.storage.atomic import AtomicFile, sync_directory
from nexusrag.providers.storage.port import PIECE, checked, pieces
from nexusrag.providers.storage.threads import Threads

T = TypeVar("T")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DirectoryStorage:
    """A `Storage` on a local file system, shared by the processes of one machine."""

    def __init__(self, root: Path) -> None:
        """Make the directories (readable by the owner only) and remove what crashed writers left. Blocks; do it at start.

        Raises ApiError(SERVICE_UNAVAILABLE) when `root` cannot be used.
        """
        self._objects = root / "objects"
        self._partial = root / "partial"
        self._threads = Threads(8)
        try:
            for directory in (root, self._objects, self._partial):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_leftovers()
        except OSError as error:
            raise _unavailable(error) from error

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        path = self._path(key)
        file = AtomicFile(self._partial / secrets.token_hex(16))
        size = 0
        try:
            async for piece in pieces(chunks):
                await self._run(partial(self._append, file, piece))
                size += len(piece)
            await self._run(partial(self._commit, file, path))
        except BaseException:
            with contextlib.suppress(ApiError):
                await self._run(file.discard)
            raise
        return size

    async def get(self, key: str) -> AsyncGenerator[bytes, None]:
        reader = _Reader(self._path(key))
        try:
            more = True
            while more:
                piece = await self._run(reader.read)
                more = len(piece) == PIECE  # a short piece is the last: most objects take one hop to a thread
                if piece:
                    yield piece
        finally:
            reader.close()

    async def delete(self, key: str) -> None:
        await self._run(partial(self._path(key).unlink, missing_ok=True))

    async def clear(self, key: str) -> None:
        await self.delete(key)
        await self._run(self._remove_leftovers)

    async def exists(self, key: str) -> bool:
        return await self._run(self._path(key).is_file)

    async def size(self, key: str) -> int:
        try:
            return (await self._run(self._path(key).stat)).st_size
        except FileNotFoundError:
            raise not_found("file") from None

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(checked(key).encode()).hexdigest()
        return self._objects / digest[:2] / digest[2:]

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await self._threads.run(work)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unavailable(error) from error

    def _create(self, file: AtomicFile) -> None:
        with self._partial_lock(fcntl.LOCK_SH):
            fcntl.flock(file.open(), fcntl.LOCK_EX)

    def _append(self, file: AtomicFile, piece: bytes) -> None:
        if not file.is_open:  # with the first piece: most objects have one, and each hop to a thread costs
            self._create(file)
        file.write(piece)

    def _commit(self, file: AtomicFile, path: Path) -> None:
        if not file.is_open:  # an empty object
            self._create(file)
        try:
            path.parent.mkdir(mode=0o700)
            sync_directory(self._objects)
        except FileExistsError:
            pass
        file.place(path, durable=True)

    def _remove_leftovers(self) -> None:
        """Remove partial files that no living process has locked. No file is between its creation and its lock meanwhile."""
        with self._partial_lock(fcntl.LOCK_EX):
            for leftover in self._partial.iterdir():
                with contextlib.suppress(BlockingIOError, FileNotFoundError), leftover.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    leftover.unlink()

    @contextlib.contextmanager
    def _partial_lock(self, kind: int) -> Iterator[None]:
        fd = os.open(self._partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, kind)
            yield
        finally:
            os.close(fd)


class _Reader:
    """Opened by its first read; holds its file from then on, so that a cancelled first read leaks nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def read(self) -> bytes:
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                raise not_found("file") from None
        return self._file.read(PIECE)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _unavailable(error: OSError) -> ApiError:
    if error.errno in _FULL:
        return ApiError(ErrorCode.SERVICE_UNAVAILABLE, "The disk of the file store is full. Free some space and try again.")
    return ApiError(ErrorCode.SERVICE_UNAVAILABLE, "The file store cannot be used. Check its directory, disk and permissions.")
