"""The other side of the zygote: processes of the product for as long as a test needs them, or until they die at their point."""

import asyncio
import json
import pickle
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nexusrag.settings import Settings
from tests.support.processes import ROOT, plain_environment


@dataclass
class Child:
    """One process. `died_at` is the point that was fatal; `passed` are the points of one that was to tell them all."""

    number: int
    pid: int = 0
    port: int = 0
    died_at: str | None = None
    passed: list[str] = field(default_factory=list)
    failure: str | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Nursery:
    """Forks through the zygote."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._children: dict[int, Child] = {0: Child(0)}
        self._listening = asyncio.create_task(self._listen())

    async def fork(self, role: str, settings: str = "main", *, fatal: int | None = None, queue: str = "", crons: bool = True) -> Child:
        """A process that begins at once; wait for its `ready`. One of role `worker` takes the jobs of `queue`."""
        child = Child(len(self._children))
        self._children[child.number] = child
        order = {"child": child.number, "role": role, "settings": settings, "fatal": fatal, "queue": queue, "crons": crons}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        return child

    async def loaded(self) -> None:
        await self._children[0].ready.wait()

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            news = json.loads(line)
            child = self._children[news["child"]]
            match news["event"]:
                case "loaded" | "ready":
                    child.port, child.pid = news.get("port", 0), news.get("pid", 0)
                    child.ready.set()
                case "passed":
                    child.passed.append(news["name"])
                case "dying":
                    child.died_at = news["name"]
                case "failed":
                    child.failure = news["error"]
                case "ended":
                    child.ended.set()
                    child.ready.set()

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._listening


@asynccontextmanager
async def nursery(settings: Mapping[str, Settings], directory: Path) -> AsyncIterator[Nursery]:
    """The settings by name, as `Nursery.fork` takes them. Everything that was forked is gone afterwards."""
    path = directory / "settings"
    path.touch(0o600)
    path.write_bytes(pickle.dumps(dict(settings)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.zygote", str(path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=plain_environment(), cwd=ROOT, limit=2**20,
    )  # fmt: skip
    held = Nursery(process)
    try:
        async with asyncio.timeout(60):
            await held.loaded()
        yield held
    finally:
        await held.close()
