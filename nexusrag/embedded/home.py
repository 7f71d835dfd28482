"""Where an installation keeps its files, who may read them, and the file locks by which its processes agree.

Locks are `flock`: the kernel frees them when their holder dies, so a killed process never blocks the next one.
"""

import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SOCKET_PATH_LIMIT = 103  # sun_path holds 107 bytes on Linux and 103 on macOS, the closing NUL left out
_LONGEST_SOCKET_NAME = len(b"/postgres-00000000/.s.PGSQL.32767")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+")


class EmbeddedError(Exception):
    """The embedded servers cannot be used. The message says what is wrong and what to do."""


@dataclass(frozen=True)
class Home:
    """The directory of one installation. Every directory in it is the owner's alone (0700)."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    def create(self) -> None:
        """Make the directories. Raises EmbeddedError where the home cannot be written or is another user's."""
        try:
            fresh = not self.root.exists() or not any(self.root.iterdir())
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.root.stat().st_uid
            if owner != os.geteuid():
                # Files that root left behind would lock the owner out of their own installation.
                raise EmbeddedError(f"{self.root} belongs to user {owner}: run nexusrag as that user, or choose another --home.")
            if fresh or self.run.is_dir():  # a directory that holds other things keeps its mode
                self.root.chmod(0o700)
            for directory in (self.data, self.run, self.logs, self.secrets):
                directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(f"{self.root} cannot be used as the home of an installation: {error}. Choose another --home.") from error

    def identity(self) -> str:
        """Eight hex digits, made once: a home deleted and made again under the same path has other sockets."""
        path = self.run / "id"
        if not path.exists():
            write_atomic(path, secrets.token_hex(4), replace=False)
        return path.read_text("ascii").strip()

    def socket_directory(self, name: str, uid: int, gid: int) -> Path:
        """The directory of the sockets of server `name`, made with mode 0700 for user `uid`.

        It is under `run` where the path fits into a socket address, needs no quoting in a URL and can be reached by `uid`;
        otherwise in a short directory of ours under /run (root) or the temp directory.
        """
        identity = self.identity()
        here = os.fsencode(self.run)
        if len(here) + _LONGEST_SOCKET_NAME <= _SOCKET_PATH_LIMIT and _PLAIN.issuperset(here) and uid == os.geteuid():
            base = self.run
        else:
            digest = hashlib.sha256(os.fsencode(self.root) + identity.encode()).hexdigest()[:12]
            base = _short_base() / f"nexusrag-{os.geteuid()}-{digest}"
            own_directory(base, os.geteuid(), os.getegid(), 0o711)
        directory = base / f"{name}-{identity}"
        own_directory(directory, uid, gid, 0o700)
        return directory

    def drop_socket_directory(self, directory: Path) -> None:
        """Remove what socket_directory made, with the sockets that a killed server left. Only while that server is dead."""
        for leftover in directory.iterdir():
            leftover.unlink(missing_ok=True)
        for path in (directory, directory.parent):
            if path != self.run:
                try:
                    path.rmdir()
                except OSError:  # in use by the other server, or gone
                    return


def own_directory(path: Path, uid: int, gid: int, mode: int) -> None:
    """Make `path`, or check that it is ours already. Raises EmbeddedError where somebody else has taken the name."""
    try:
        path.mkdir(mode=mode)
        if uid != os.geteuid():
            os.chown(path, uid, gid)
    except FileExistsError:
        pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (uid, os.geteuid()) or found.st_mode & 0o022:
        raise EmbeddedError(f"{path} is not a directory of our own: remove it.")
    if found.st_uid != uid:  # a start was cut off between making it and giving it away
        os.chown(path, uid, gid)
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)


def _short_base() -> Path:
    # Not the temp directory of the environment first: `up` and a command beside it may see different ones.
    shared = Path("/tmp")  # noqa: S108 - the directory made in it is checked to be ours
    candidates = [Path("/run"), shared] if os.geteuid() == 0 else [shared]
    return next((path for path in candidates if path.is_dir() and os.access(path, os.W_OK)), Path(tempfile.gettempdir()))


def write_atomic(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file of mode 0600 that is there whole or not at all, even after a power cut.

    With `replace=False` a file that another process made first is kept.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
        sync_directory(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make a change of names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(path: Path, operation: int) -> int | None:
    """A descriptor that holds `fcntl.LOCK_SH` or `LOCK_EX` on `path`, or None while others hold what excludes it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def wait_lock(path: Path, operation: int, timeout: float, what: str) -> int:
    """As try_lock, but waits up to `timeout` seconds. Raises EmbeddedError, naming `what` it waited for."""
    deadline = time.monotonic() + timeout
    while (descriptor := try_lock(path, operation)) is None:
        if time.monotonic() > deadline:
            raise EmbeddedError(f"Waited {timeout:.0f} s for {what} ({path}).")
        time.sleep(0.01)
    return descriptor


@contextmanager
def exclusive(path: Path, timeout: float, what: str) -> Iterator[None]:
    """Hold the exclusive lock on `path` for the length of the block."""
    descriptor = wait_lock(path, fcntl.LOCK_EX, timeout, what)
    try:
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether some process holds the exclusive lock on `path`. Makes no file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
