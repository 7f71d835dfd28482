"""A file that appears at its path whole or not at all. Everything here blocks: call it in a thread."""

import contextlib
import os
from pathlib import Path


class AtomicFile:
    """Written at `temporary`, in the same file system as its place; readable by its owner only.

    `open` is apart from the constructor so that whoever is cancelled in the middle of it still holds what there is to discard.
    """

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self._fd = -1

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def open(self) -> int:
        """Create the file and return its descriptor."""
        self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return self._fd

    def write(self, data: bytes) -> None:
        """All of `data`: a write to a nearly full disk takes a part and says so only on the next try."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def place(self, path: Path, *, durable: bool) -> None:
        """Put the file at `path`, over what was there. `durable`: it survives a power cut once this returns."""
        if durable:
            os.fsync(self._fd)
        self._temporary.replace(path)
        if durable:
            sync_directory(path.parent)
        os.close(self._fd)
        self._fd = -1

    def discard(self) -> None:
        """Leave nothing behind; harmless after `place`."""
        if self.is_open:
            with contextlib.suppress(FileNotFoundError):
                self._temporary.unlink()
            os.close(self._fd)
            self._fd = -1


def sync_directory(path: Path) -> None:
    """Make the names in `path` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
