"""The lock that makes one embedding process per socket. The system frees it when the last process that holds it is gone."""

import fcntl
import os
from pathlib import Path


def take_lock(socket: Path) -> int | None:
    """A descriptor that holds the lock of `socket`, or None when another process has it. Raises OSError."""
    descriptor = os.open(socket.with_name(socket.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor
