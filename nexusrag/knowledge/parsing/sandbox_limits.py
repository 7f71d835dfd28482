"""What a parser process gives up before it sees a document: memory, files, network, new processes, and outliving its parent.

Limits of memory, files written and open descriptors hold everywhere. On Linux the kernel also takes the network (a namespace of its own)
and every file outside the interpreter (Landlock), where it permits that; `confine` says what was granted.
"""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_PDEATHSIG, _DUMPABLE, _NO_NEW_PRIVS = 1, 4, 38
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
# The numbers of these calls are the same on every architecture.
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_PATH = 1
_LANDLOCK_READ = 1 << 2 | 1 << 3
_LANDLOCK_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1}
_OPEN_FILES = 64


def confine(parent: int, memory_mb: int, packages: list[Path]) -> dict[str, bool]:
    """Give up all that a parser does not need; `packages` stay readable. Ends the process when `parent` is gone.

    Returns what was taken: `network`, `files`, `parent` (dies with its parent).
    """
    granted = {"network": False, "files": False, "parent": False}
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        granted["network"] = libc.unshare(_NEW_NET) == 0 or libc.unshare(_NEW_USER | _NEW_NET) == 0
        libc.prctl(_DUMPABLE, 0, 0, 0, 0)
        libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
        granted["files"] = _landlock(libc, packages)
        granted["parent"] = libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    if os.getppid() != parent:
        sys.exit(1)
    for kind, most in (
        (resource.RLIMIT_AS, memory_mb * 1024 * 1024),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(kind, most)
    return granted


def allow_cpu(seconds: int) -> None:
    """Let the process use `seconds` more of processor time, then end."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    try:
        resource.setrlimit(kind, (most, most))
    except (ValueError, OSError):
        return  # a system that does not know this limit


def _landlock(libc: Any, packages: list[Path]) -> bool:
    """From now on open files for reading only, and only the interpreter's own; descriptors that are open stay usable."""
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return False
    rights = _LANDLOCK_RIGHTS.get(version, (1 << 15) - 1)
    attribute = ctypes.c_uint64(rights)
    rules = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(attribute), ctypes.sizeof(attribute), 0)
    if rules < 0:
        return False
    try:
        for path in {*packages, Path(sys.prefix), Path(sys.base_prefix), Path("/usr/lib"), Path("/lib"), Path("/lib64")}:
            if path.exists() and not _allow(libc, rules, path):
                return False
        return bool(libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


class _Beneath(ctypes.Structure):
    """struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("directory", ctypes.c_int32))


def _allow(libc: Any, rules: int, path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        rule = _Beneath(_LANDLOCK_READ, descriptor)
        return bool(libc.syscall(_LANDLOCK_ADD, rules, _LANDLOCK_PATH, ctypes.byref(rule), 0) == 0)
    finally:
        os.close(descriptor)
