"""The `nexusrag` command as a person types it, on a home of its own, and what is left of that home's processes."""

import asyncio
import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil  # type: ignore[import-untyped]

from nexusrag.embedded.postgres import EmbeddedPostgres
from nexusrag.embedded.redis import EmbeddedRedis
from nexusrag.infra.urls import connect_arguments
from nexusrag.settings.stores import StoreSettings
from tests.support.api import Person
from tests.support.installation import http
from tests.support.processes import COMMAND, Process, free_port, is_alive, plain_environment, until

# Wide enough that no line of a table is folded.
_COLUMNS = "400"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        """What was printed, which must be one JSON value and nothing else."""
        return json.loads(self.output)


class Home:
    """The directory of one installation, and the commands that act on it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "home"
        self.outside = directory  # where commands are typed: no .env stands there

    async def run(self, *arguments: str, within_s: float = 100, command: Sequence[str] = COMMAND, **env: str) -> Done:
        """`nexusrag <arguments> --home …`, to its end."""
        ended = await asyncio.to_thread(
            subprocess.run,
            [*command, *arguments, "--home", str(self.path)],
            env=plain_environment(**{"COLUMNS": _COLUMNS, **env}),
            cwd=self.outside,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
        )
        return Done(ended.returncode, ended.stdout, ended.stderr)

    @asynccontextmanager
    async def up(self, *options: str, **env: str) -> AsyncIterator["Up"]:
        """`nexusrag up`, once it serves; killed on leaving if it still runs."""
        port = free_port()
        arguments = ["up", "--port", str(port), *options, "--home", str(self.path)]
        started = Process(arguments, plain_environment(**{"COLUMNS": _COLUMNS, **env}), self.outside)
        try:

            async def serves() -> bool:
                assert started.code is None, started.output()
                return "Serving on" in started.output() and "curl -N" in started.output()

            await until(serves, 90, 0.05)
            yield Up(self, started, f"http://127.0.0.1:{port}")
        finally:
            started.close()

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """Rows of a statement that no wall binds. The servers must be running; asking does not keep them."""
        url = EmbeddedPostgres(self.path, StoreSettings()).url("admin")
        connection = await asyncpg.connect(**connect_arguments(url))
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    def processes(self) -> dict[int, str]:
        """Command lines of the living processes of this home, by pid."""
        mark = str(self.path)
        return {process.pid: line for process in psutil.process_iter() if (line := _line_of(process, mark)) is not None}

    def stop_servers(self) -> None:
        """What a killed `up` leaves running on purpose."""
        if (self.path / "run").is_dir():
            EmbeddedPostgres(self.path, StoreSettings()).stop()
            EmbeddedRedis(self.path).stop()


@dataclass(frozen=True, slots=True)
class Up:
    """A running `nexusrag up`."""

    home: Home
    process: Process
    url: str

    @property
    def output(self) -> str:
        return self.process.output()

    def child(self, command: str) -> int:
        """The pid of its process `api` or `worker`."""
        # A process that the worker starts bears the worker's command line for a moment.
        lines = [(pid, parent, line) for pid, parent, line in self._children() if command in line and "nexusrag.cli.main" in line]
        (pid,) = [pid for pid, parent, _ in lines if parent not in {one for one, _, _ in lines}]
        return pid

    def _children(self) -> Iterator[tuple[int, int, list[str]]]:
        for child in self.process.children():
            with suppress(psutil.Error):  # one that has ended and was not waited for yet
                yield int(child.pid), int(child.ppid()), child.cmdline()

    async def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = 60) -> int:
        """Ask it to end; its exit code."""
        psutil.Process(self.process.pid).send_signal(number)
        return await self.process.ended(within_s)

    @asynccontextmanager
    async def person(self, role: str = "admin", tenant: str = "t9") -> AsyncIterator[Person]:
        """Somebody with a key from the command line."""
        made = await self.home.run("keys", "create", "--tenant", tenant, "--role", role, "--name", "somebody", "--json")
        assert made.code == 0, made.errors
        async with http(self.url, made.json["api_key"]) as client:
            yield Person(client, made.json)


@contextmanager
def new_home() -> Iterator[Home]:
    """An empty home, gone with its servers on leaving. Its path is short, as sockets want it."""
    directory = Path(tempfile.mkdtemp(prefix="nre-"))
    home = Home(directory)
    try:
        yield home
    finally:
        home.stop_servers()
        shutil.rmtree(directory, ignore_errors=True)


def _line_of(process: Any, mark: str) -> str | None:
    """The command line of a living process that names `mark` in it, works in it, or was told of it in the environment."""
    try:
        line = " ".join(process.cmdline())
        named = mark in line or mark in (process.cwd() or "") or process.environ().get("NEXUSRAG_HOME") == mark
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return line if named and is_alive(process.pid) else None
