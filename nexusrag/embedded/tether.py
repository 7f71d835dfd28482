"""Run as a file: `python tether.py PID PROGRAM [ARGUMENT…]` becomes PROGRAM, and ends with the process PID that started it.

On Linux the kernel sends SIGKILL (PR_SET_PDEATHSIG), which survives exec. Elsewhere this process stays as the parent of PROGRAM,
passes signals on and kills it once the pipe on its standard input closes, as it does with the death of its writer.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    parent, program = int(arguments[0]), arguments[1:]
    if os.uname().sysname == "Linux":
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.stderr.write(f"prctl: {os.strerror(ctypes.get_errno())}\n")
            return 126
        if os.getppid() != parent:  # it died before we asked
            return 137
        os.execvp(program[0], program)  # noqa: S606 - a fixed program, no shell
    return watch(program)


def watch(program: list[str]) -> int:
    """Run `program` until it ends or standard input does. Returns its exit code as a shell would."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    # Before the child exists: a signal that came in between would end this process and leave the child alone.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    child = subprocess.Popen(program, stdin=subprocess.DEVNULL)
    for missed in early:
        child.send_signal(missed)
    orphaned = child

    def on_orphaned() -> None:
        while os.read(0, 1024):
            pass
        orphaned.kill()

    threading.Thread(target=on_orphaned, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
