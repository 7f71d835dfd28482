"""Which user the embedded servers run as, and how that user reaches what lies in directories closed to it.

PostgreSQL refuses to run as root. Root's servers run as `postgres` or `nobody`; no directory is opened up for them: they get
an open descriptor of their data (`/proc/self/fd/N`), and a copy of their programs where those cannot be reached.
"""

import hashlib
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nexusrag.embedded.home import EmbeddedError, own_directory

# Nothing of our environment, which may hold keys of outside systems, reaches the servers.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Account:
    """The user of a server. `other` says that it is not the user of this process (which is root, then)."""

    uid: int
    gid: int
    other: bool

    @classmethod
    def for_data(cls, data: Path) -> "Account":
        """Our own user; for root, the owner of `data` if there is one, else `postgres` or `nobody`."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), other=False)
        if not Path("/proc/self/fd").is_dir():
            raise EmbeddedError("The embedded servers cannot be run by root on this system: use a plain user.")
        if data.is_dir() and (owner := data.stat()).st_uid != 0:
            return cls(owner.st_uid, owner.st_gid, other=True)
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid, other=True)
        raise EmbeddedError("Root needs a user `postgres` or `nobody` to run PostgreSQL as: create one, or use a plain user.")

    @contextmanager
    def reach(self, path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
        """A name under which a process of this user can open `path`, and the descriptors it must inherit for that."""
        if not self.other:
            yield str(path), ()
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{descriptor}", (descriptor,)
        finally:
            os.close(descriptor)

    def own(self, path: Path) -> None:
        """Make the directory `path` for this user alone."""
        own_directory(path, self.uid, self.gid, 0o700)

    def spawn(self, argv: Sequence[str], *, inherit: tuple[int, ...], stdin: int, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start `argv` as this user in a session of its own: Ctrl-C in our terminal is not meant for it."""
        user: dict[str, Any] = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.other else {}
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=inherit,
            start_new_session=True,
            cwd="/",
            env=_ENVIRONMENT,
            **user,
        )

    def programs(self, site: Path, parts: Sequence[str], program: str) -> Path:
        """A directory that holds `parts` of the directory `site`, where this user can run `program` (a path in it)."""
        if not self.other or self._can_run(site / program):
            return site
        found = (site / program).stat()
        key = hashlib.sha256(f"{site}\0{parts}\0{found.st_size}\0{found.st_mtime_ns}".encode()).hexdigest()[:16]
        cache = _program_cache()
        copy = cache / key
        if not (copy / program).exists():
            draft = cache / f".{key}.{secrets.token_hex(4)}"
            try:
                _copy(site, parts, draft)
                draft.rename(copy)
            except OSError as error:
                if not (copy / program).exists():  # else another process was faster
                    raise EmbeddedError(f"The programs in {site} cannot be copied to {cache} for user {self.uid}: {error}.") from error
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return copy

    def _can_run(self, path: Path) -> bool:
        for step in (real := path.resolve(), *real.parents):
            found = step.stat()
            needed = 0o5 if step == real else 0o1
            if found.st_uid == self.uid:
                needed <<= 6
            elif found.st_gid == self.gid:
                needed <<= 3
            if found.st_mode & needed != needed:
                return False
        return True


def _program_cache() -> Path:
    place = Path("/var/cache")
    if not os.access(place, os.W_OK):
        place = Path(tempfile.gettempdir())
    own_directory(place / "nexusrag", os.geteuid(), os.getegid(), 0o755)
    return place / "nexusrag"


def _copy(site: Path, parts: Sequence[str], target: Path) -> None:
    """Copy in the same layout (the programs find their libraries relatively), readable by everybody: they are a public package."""
    for part in parts:
        if (site / part).exists():
            shutil.copytree(site / part, target / part, symlinks=True, ignore=shutil.ignore_patterns("include", "__pycache__"))
    for directory, _, files in os.walk(target):
        Path(directory).chmod(0o755)
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    os.sync()  # a power cut must not leave a directory with the right name and empty files
