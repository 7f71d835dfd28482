"""Starts the embedding process where none serves. It outlives its starter, and ends by itself when nobody is connected."""

import os
import subprocess
import sys
from pathlib import Path

import nexusrag
from nexusrag.providers.embeddings.local.lock import take_lock

# Where `-m` looks first, so that the process runs this very code, installed or not.
_CODE = Path(nexusrag.__file__).parents[1]


def spawn(socket: Path, log: Path, threads: int) -> subprocess.Popen[bytes] | None:
    """The started process, or None when another one serves `socket`, starts or ends. Its output is appended to `log`.

    Takes about a millisecond. Raises OSError.
    """
    for directory in (socket.parent, log.parent):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = take_lock(socket)
    if lock is None:
        return None
    command = [sys.executable, "-m", "nexusrag.providers.embeddings.local.server", "--socket", str(socket)]
    command += ["--threads", str(threads), "--lock", str(lock)]
    try:
        with open(log, "ab", opener=_private) as output:
            return subprocess.Popen(
                command,
                cwd=_CODE,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock,),
                start_new_session=True,
            )
    finally:
        os.close(lock)  # the started process holds it from here on


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
