"""Keeps the processes of `nexusrag up` alive, stops them in good order, and lets none of them outlive it, not even a SIGKILL.

Each child leads a process group of its own: Ctrl-C in the terminal reaches the supervisor alone, which decides the order, and what
a killed child started is killed with its group.
"""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_TETHER = Path(__file__).parents[1] / "embedded" / "tether.py"
_STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Child:
    """A process to keep alive. `env` is its whole environment (None: ours); `log` takes its output (None: ours does)."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    log: Path | None = None


@dataclass(frozen=True)
class Event:
    """What happened to a child. `code` is its exit code, negative for a signal; `delay` the seconds until it is started again."""

    kind: Literal["started", "died", "stopped", "killed", "heal_failed"]
    name: str
    pid: int = 0
    code: int = 0
    delay: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Timing:
    """Seconds. The pause before a restart doubles from `backoff` to `backoff_cap`; a child that lived `steady` starts from `backoff`."""

    backoff: float = 0.2
    backoff_cap: float = 10.0
    steady: float = 30.0
    grace: float = 20.0
    heal_every: float = 1.0


class Supervisor:
    """Runs `children` until a stop is asked for.

    `heal` is called every `timing.heal_every` seconds in a thread (it restarts what is not a child of ours, such as the embedded
    servers); `on_event` is told what happens.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        timing: Timing | None = None,
        heal: Callable[[], object] | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._children = tuple(children)
        self._timing = timing or Timing()
        self._heal = heal
        self._tell = on_event
        self._processes: dict[str, Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    def pid(self, name: str) -> int | None:
        """The pid of a child that runs now."""
        process = self._processes.get(name)
        return process.pid if process is not None and process.returncode is None else None

    async def run(self) -> None:
        """Start all, and return when all have ended after a stop. SIGINT, SIGTERM and SIGHUP ask for one, a second time at once."""
        loop = asyncio.get_running_loop()
        # `nohup` ignores SIGHUP on our behalf; we go on ignoring it then.
        numbers = [number for number in _STOPPING_SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
        for number in numbers:
            loop.add_signal_handler(number, self.request_stop)
        try:
            await self.start()
            await self._stop.wait()
        finally:
            try:
                await self.stop()
            finally:
                for number in numbers:
                    loop.remove_signal_handler(number)

    async def start(self) -> None:
        """Start all children, in order, and go on keeping them alive in the background. Raises OSError when a log cannot be opened."""
        for child in self._children:
            self._processes[child.name] = await self._spawn(child)
            self._tasks.append(asyncio.create_task(self._keep(child), name=f"keep {child.name}"))
        if self._heal is not None:
            self._tasks.append(asyncio.create_task(self._healing(self._heal), name="heal"))

    def request_stop(self) -> None:
        """Ask for a stop; asked twice, whatever still runs is killed."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def stop(self) -> None:
        """Ask every child to end (SIGTERM), wait `timing.grace` seconds, and kill what is left."""
        self._stop.set()
        for name, process in self._processes.items():
            if process.returncode is None:
                _signal_group(process.pid, signal.SIGTERM, whole=False)
                self._tell(Event("stopped", name, process.pid))
        ended = asyncio.create_task(self._all_ended())
        hurry = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait({ended, hurry}, timeout=self._timing.grace, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
            for name, process in self._processes.items():
                if process.returncode is None:
                    self._tell(Event("killed", name, process.pid))
                    _signal_group(process.pid, signal.SIGKILL, whole=True)
            await ended
            await asyncio.gather(*self._tasks)
            self._tasks.clear()

    async def _all_ended(self) -> None:
        for process in list(self._processes.values()):
            await process.wait()

    async def _spawn(self, child: Child) -> Process:
        output = os.open(child.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if child.log is not None else None
        try:
            process = await asyncio.create_subprocess_exec(
                # -I -S: the wrapper needs nothing of site-packages; the program it becomes starts afresh.
                *(sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *child.argv),
                stdin=DEVNULL if sys.platform == "linux" else PIPE,
                stdout=output,
                stderr=STDOUT if output is not None else None,
                env=dict(child.env) if child.env is not None else None,
                start_new_session=True,
            )
        finally:
            if output is not None:
                os.close(output)
        self._tell(Event("started", child.name, process.pid))
        return process

    async def _keep(self, child: Child) -> None:
        pause = self._timing.backoff
        while True:
            process = self._processes[child.name]
            started = time.monotonic()
            code = await process.wait()
            _signal_group(process.pid, signal.SIGKILL, whole=True)  # what it started and left behind
            if time.monotonic() - started >= self._timing.steady:
                pause = self._timing.backoff
            reason = ""
            while True:
                if self._stop.is_set():
                    return
                self._tell(Event("died", child.name, process.pid, code, pause, reason))
                if await self._stopped_within(pause):
                    return
                pause = min(pause * 2, self._timing.backoff_cap)
                try:
                    self._processes[child.name] = await self._spawn(child)
                except OSError as error:  # no process or no file to be had just now
                    reason = str(error)
                else:
                    break
            if self._stop.is_set():  # stop() looked at the processes while this one was being started
                _signal_group(self._processes[child.name].pid, signal.SIGKILL, whole=True)

    async def _healing(self, heal: Callable[[], object]) -> None:
        while not await self._stopped_within(self._timing.heal_every):
            try:
                await asyncio.to_thread(heal)
            except Exception as error:  # whatever it is, the next attempt may succeed; the reader is told
                self._tell(Event("heal_failed", "heal", reason=str(error)))

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True


def _signal_group(pid: int, number: signal.Signals, *, whole: bool) -> None:
    """Signal the process `pid`, or with `whole` its group, which may outlive it."""
    try:
        (os.killpg if whole else os.kill)(pid, number)
    except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        pass
