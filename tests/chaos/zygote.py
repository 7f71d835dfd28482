"""A process that has loaded the whole product and forks an API or a worker of it whenever it is told to: a kill then costs little.

Orders come as lines of JSON on standard input, news goes as such lines to standard output. The children end with this process, and this
one with whoever started it.
"""

import asyncio
import ctypes
import gc
import json
import os
import pickle
import select
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from fastapi import FastAPI

from nexusrag import worker
from nexusrag.app import create_app
from nexusrag.domains import DOMAINS
from nexusrag.infra import logs
from nexusrag.infra.loop import new_loop
from nexusrag.settings import Settings
from nexusrag.web.server import Server
from tests.chaos.points import Points, Watched, install

_PR_SET_PDEATHSIG = 1


def main(path: str) -> None:
    """Serve orders until standard input is closed. `path` holds the settings by name, pickled."""
    _end_with_parent()
    logs.configure("ERROR")
    held: dict[str, Settings] = pickle.loads(Path(path).read_bytes())
    apps = {name: create_app(settings) for name, settings in held.items()}
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    # What is here is never looked at again by a collector: a child would copy every page of it.
    gc.collect()
    gc.freeze()
    tell(0, "loaded")
    pending = b""
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            _bury(children)
        if 0 in readable:
            piece = os.read(0, 65536)
            if not piece:
                break
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    _live(order, held[order["settings"]], apps[order["settings"]])
                children[pid] = order["child"]
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def tell(child: int, event: str, **more: Any) -> None:
    """One line, in one write: those of several processes do not mix."""
    os.write(1, json.dumps({"child": child, "event": event, **more}).encode() + b"\n")


def _bury(children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        tell(children.pop(pid), "ended", code=os.waitstatus_to_exitcode(status))


def _live(order: dict[str, Any], settings: Settings, app: FastAPI) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _end_with_parent()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        points = Points(order["fatal"], lambda event, **more: tell(order["child"], event, **more))
        install(points)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_api(order["child"], app, settings, points) if order["role"] == "api" else _worker(order, settings))
        code = 0
    except BaseException as error:
        tell(order["child"], "failed", error=f"{type(error).__name__}: {error}"[:2000])
    finally:
        os._exit(code)


async def _api(child: int, app: FastAPI, settings: Settings, points: Points) -> None:
    app.middleware_stack = Watched(app.middleware_stack or app.build_middleware_stack(), points)
    listening = socket.socket(proto=socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    server = Server(app, settings)

    async def ready() -> None:
        while not server.started:
            await asyncio.sleep(0.005)
        tell(child, "ready", pid=os.getpid(), port=listening.getsockname()[1])

    telling = asyncio.create_task(ready())
    await server.serve(sockets=[listening])
    telling.cancel()


async def _worker(order: dict[str, Any], settings: Settings) -> None:
    if not order["crons"]:
        worker.DOMAINS = tuple(replace(domain, crons=()) for domain in DOMAINS)  # type: ignore[attr-defined]  # as it imports it
    ingestion = settings.ingestion.model_copy(update={"ingest_queue_name": order["queue"]})
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tell(order["child"], "ready", pid=os.getpid())
    await worker.work(settings.model_copy(update={"ingestion": ingestion}), stop)


def _end_with_parent() -> None:
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
