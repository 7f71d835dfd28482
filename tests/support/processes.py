"""The product's processes as an operator runs them, the signals that faults are made of, and a proxy that breaks connections."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from random import randrange
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, TypeVar

import httpx
import psutil  # type: ignore[import-untyped]

import nexusrag
from tests.support.installation import ENV, Servers

T = TypeVar("T")
ROOT = Path(nexusrag.__file__).parent.parent
COMMAND = (sys.executable, "-m", "nexusrag.cli.main")
_PORTS = 1000
_FIRST_PORT = 20_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12 * _PORTS
_ports = count(randrange(_PORTS))  # another run of tests on this machine begins elsewhere


async def until(condition: Callable[[], Awaitable[T]], within_s: float = 20, every_s: float = 0.02) -> T:
    """What `condition` returns, once that is true."""
    end = monotonic() + within_s
    while not (value := await condition()):
        assert monotonic() < end, f"not within {within_s} s: {condition}"
        await asyncio.sleep(every_s)
    return value


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives away by itself, and in a range of this test process alone."""
    while True:
        port = _FIRST_PORT + next(_ports) % _PORTS
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def plain_environment(**changes: str) -> dict[str, str]:
    """An environment in which nothing of ours is set."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **changes}


class Process:
    """A command of the product in a process group of its own, its output in a file."""

    def __init__(self, arguments: list[str], env: dict[str, str], directory: Path, program: Sequence[str] = COMMAND) -> None:
        self.log = directory / f"{arguments[0]}-{monotonic()}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [*program, *arguments],
                env=env,
                cwd=directory,  # there is no .env here
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def children(self) -> list[psutil.Process]:
        """Living descendants."""
        return list(psutil.Process(self.pid).children(recursive=True))

    def kill(self) -> None:
        """SIGKILL to the one process, as the kernel does when memory is short."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        self._process.terminate()

    async def ended(self, within_s: float = 30) -> int:
        """Its exit code, once it has ended."""

        async def over() -> bool:
            return self.code is not None

        await until(over, within_s)
        return int(self.code or 0)

    def close(self) -> None:
        """End it and what it left behind."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()


@contextmanager
def process(servers: Servers, command: str, *, program: Sequence[str] = COMMAND, **env: str) -> Iterator[Process]:
    """`nexusrag <command>` on the test's servers, killed on leaving."""
    with TemporaryDirectory(prefix="nrt-process-") as directory:
        variables = plain_environment(**{**ENV, **servers.environment.variables(), **env})
        started = Process([command], variables, Path(directory), program)
        try:
            yield started
        except BaseException:
            print(started.output()[-4000:])  # what it said goes with its directory
            raise
        finally:
            started.close()


@asynccontextmanager
async def api_process(servers: Servers, *, program: Sequence[str] = COMMAND, **env: str) -> AsyncIterator[tuple[Process, str]]:
    """An API process that answers, and its base URL."""
    port = free_port()
    with process(servers, "api", program=program, API_PORT=str(port), **env) as started:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient() as client:

            async def answers() -> bool:
                assert started.code is None, started.output()
                try:
                    return (await client.get(f"{url}/v1/health")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(answers, 40, 0.1)
        yield started, url


class Proxy:
    """Stands between clients and a server on a unix socket, and breaks their connections when told to."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._pairs: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.refusing = False
        self.answering = asyncio.Event()  # while it is not set, answers are held back
        self.answering.set()
        # Called with each piece that a client sends; True: pass it on, and cut the connection instead of passing the answer back.
        self.cut_after: Callable[[bytes], bool] = lambda _: False

    async def listen(self, path: str) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset all connections."""
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()
        self._pairs.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        there, back = await asyncio.open_unix_connection(self._target)
        self._pairs.append((writer, back))
        silenced = asyncio.Event()
        for source, sink, upward in ((reader, back, True), (there, writer, False)):
            task = asyncio.create_task(self._pump(source, sink, upward, silenced))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, upward: bool, silenced: asyncio.Event) -> None:
        try:
            while piece := await source.read(65536):
                if upward and self.cut_after(piece):
                    silenced.set()
                elif not upward and silenced.is_set():
                    break
                if not upward:
                    await self.answering.wait()
                sink.write(piece)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.transport.abort()


@asynccontextmanager
async def database_proxy(servers: Servers) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before PostgreSQL and the DATABASE_URL that leads through it."""
    url = servers.settings.stores.database_url.get_secret_value()
    before, _, rest = url.partition("?host=")
    directory, _, port = rest.partition("&port=")
    with TemporaryDirectory(prefix="nrt-pg-") as own:
        proxy = Proxy(f"{directory}/.s.PGSQL.{port}")
        await proxy.listen(f"{own}/.s.PGSQL.{port}")
        try:
            yield proxy, f"{before}?host={own}&port={port}"
        finally:
            await proxy.close()


@asynccontextmanager
async def redis_proxy(servers: Servers) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before Redis and the REDIS_URL that leads through it."""
    url = servers.settings.stores.redis_url.get_secret_value()
    credentials, _, rest = url.removeprefix("unix://").partition("@")
    path, _, query = rest.partition("?")
    with TemporaryDirectory(prefix="nrt-redis-") as own:
        proxy = Proxy(path)
        await proxy.listen(f"{own}/redis.sock")
        try:
            yield proxy, f"unix://{credentials}@{own}/redis.sock?{query}"
        finally:
            await proxy.close()


def is_alive(pid: int) -> bool:
    """Whether the process lives; one that its parent has not collected does not."""
    try:
        status: Any = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return False
    return bool(status != psutil.STATUS_ZOMBIE)
