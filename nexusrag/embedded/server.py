"""How an embedded server is started once, found again, and stopped.

A server inherits the descriptor of a locked file (`<data>.alive`). The kernel keeps that lock while any process of the server
lives and frees it with the last one, whatever killed it: so neither a stale pid file, nor a reused pid, nor an orphan of a killed
server can be mistaken for a running one, and no second server can start on the same data. A server that outlives a killed
`nexusrag up` is adopted by the next start as it is.
"""

import fcntl
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from nexusrag.embedded.account import Account
from nexusrag.embedded.home import EmbeddedError, Home, exclusive, is_locked, try_lock

_LOG_LIMIT = 10_000_000  # bytes; a larger log is set aside at the next start
_ORPHAN_GRACE_S = 2.0


def silent(_: str) -> None:
    """The default for progress messages."""


class Server(ABC):
    """One embedded server. Objects in several processes may stand for the same one; all state is in the home."""

    name: ClassVar[str]
    label: ClassVar[str]
    process_names: ClassVar[tuple[str, ...]]  # how the names of its processes begin
    stop_signals: ClassVar[tuple[signal.Signals, ...]]  # in the order in which patience runs out

    def __init__(self, home: Path) -> None:
        self.home = Home(Path(os.path.realpath(home)))
        self.data = self.home.data / self.name
        self.log = self.home.logs / f"{self.name}.log"
        self._alive = self.home.data / f"{self.name}.alive"
        self._starting = self.home.run / f"{self.name}.start"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def ready(self) -> bool:
        """Whether the server accepts connections now."""

    @abstractmethod
    def _pid_in_file(self) -> int | None:
        """The pid that the server's own pid file names, dead or alive."""

    @abstractmethod
    def _cut_off(self) -> bool:
        """Whether the living server can no longer be reached, as when its socket was deleted."""

    @abstractmethod
    def _launch(self, account: Account, alive: int, report: Callable[[str], None]) -> subprocess.Popen[bytes]:
        """Make the data if there are none, remove leftovers and start the server, which inherits `alive`."""

    @abstractmethod
    def _repair(self, output: str) -> bool:
        """Put right what made a start fail with `output`; False if it cannot be helped."""

    def running(self) -> bool:
        """Whether the server lives (it may still be starting)."""
        return is_locked(self._alive) and self._main_pid() is not None

    def start(self, timeout: float = 60, report: Callable[[str], None] = silent) -> bool:
        """Start the server, or adopt it when it runs; several processes may call this at once.

        Returns whether this call started it. `timeout` in seconds covers crash recovery. Raises EmbeddedError with the end of its log.
        """
        if self.ready():
            return False
        self.home.create()
        deadline = time.monotonic() + timeout
        with exclusive(self._starting, timeout, f"another process that starts {self.label}"):
            alive = self._claim(deadline)
            if alive is None:
                return False
            try:
                process, size = self._spawn(alive, report)
                while not self.ready():
                    if process.poll() is not None:
                        output = self._log_since(size)
                        if not self._repair(output):
                            raise EmbeddedError(f"{self.label} did not start; the end of {self.log}:\n{output[-2000:].strip()}")
                        process, size = self._spawn(alive, report)
                    elif time.monotonic() > deadline:
                        raise EmbeddedError(f"{self.label} is not ready after {timeout:.0f} s; it goes on starting. See {self.log}.")
                    time.sleep(0.005)
            finally:
                os.close(alive)
            return True

    def stop(self, timeout: float = 30) -> None:
        """Stop the server in good order, whoever started it. Raises EmbeddedError when it cannot be stopped."""
        if not self._alive.exists():  # it was never started
            return
        with exclusive(self._starting, timeout, f"another process that starts {self.label}"):
            if is_locked(self._alive):
                self._end(timeout)
            self.home.drop_socket_directory(self._socket_directory())
        if self._process is not None:
            self._process.wait()  # its last descriptor is closed, so it is ending
            self._process = None

    def _socket_directory(self) -> Path:
        # Never taken from the server's own files: another user owns those, and root removes what lies in this directory.
        account = Account.for_data(self.data)
        return self.home.socket_directory(self.name, account.uid, account.gid)

    def _claim(self, deadline: float) -> int | None:
        """The descriptor of the lock, once nothing of an earlier server lives; None if the server turns out to be ready."""
        orphaned_since: float | None = None
        while True:
            descriptor = try_lock(self._alive, fcntl.LOCK_EX)
            if descriptor is not None:
                return descriptor
            if self.ready():
                return None
            if self._main_pid() is not None:
                orphaned_since = None
                if self._cut_off():
                    self._end(max(deadline - time.monotonic(), 1))
            elif orphaned_since is None:
                orphaned_since = time.monotonic()
            elif time.monotonic() - orphaned_since > _ORPHAN_GRACE_S:
                self._kill_processes(signal.SIGKILL)
            if time.monotonic() > deadline:
                raise EmbeddedError(f"An earlier {self.label} neither answers nor ends; see {self.log}.")
            time.sleep(0.01)

    def _spawn(self, alive: int, report: Callable[[str], None]) -> tuple[subprocess.Popen[bytes], int]:
        """Start it, and say how long its log was before."""
        self._reap()
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        size = self.log.stat().st_size if self.log.exists() else 0
        self._process = self._launch(Account.for_data(self.data), alive, report)
        return self._process, size

    def _end(self, timeout: float) -> None:
        for patience, number in zip((timeout, 10, 5), self.stop_signals, strict=False):
            main = self._main_pid()
            if main is None or number is signal.SIGKILL:
                self._kill_processes(signal.SIGKILL)
            else:
                _signal(main, number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if not is_locked(self._alive):
                    return
                if self._main_pid() is None and main is not None:
                    deadline = min(deadline, time.monotonic() + _ORPHAN_GRACE_S)
                    main = None
                time.sleep(0.005)
        raise EmbeddedError(f"{self.label} does not stop; see {self.log}.")

    def _main_pid(self) -> int | None:
        pid = self._pid_in_file()
        return pid if pid is not None and self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        """Whether `pid` is a process of this server. Its working directory is the data directory: names alone prove nothing."""
        process = Path("/proc") / str(pid)
        try:
            if process.parent.joinpath("self").exists():
                return (process / "comm").read_text().startswith(self.process_names) and (process / "cwd").samefile(self.data)
            command = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False).stdout
            return any(name in command for name in self.process_names) and str(self.home.root) in command
        except OSError:  # it has ended, or is a zombie
            return False

    def _kill_processes(self, number: signal.Signals) -> None:
        """Signal every process of the server: what a killed main process left behind holds the lock and serves nobody."""
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")] if Path("/proc/self").exists() else []
        for pid in filter(self._is_ours, pids):
            _signal(pid, number)

    def _log_since(self, size: int) -> str:
        with self.log.open("rb") as file:
            file.seek(size)
            return file.read(1_000_000).decode("utf-8", "replace")

    def _reap(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._process = None


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
