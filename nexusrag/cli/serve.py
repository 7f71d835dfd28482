"""`nexusrag api` and `nexusrag worker`: one process each, on the embedded servers or on real ones."""

import asyncio
from pathlib import Path

from nexusrag.embedded.environment import attach
from nexusrag.infra import logs
from nexusrag.settings import load


def api(home: Path | None) -> int:
    """Serve until a signal."""
    from nexusrag.app import create_app  # heavy: only when serving
    from nexusrag.process import check_start  # heavy: only when serving
    from nexusrag.web import server  # heavy: only when serving

    with attach(load(home)) as environment:
        logs.configure(environment.settings.runtime.log_level)
        asyncio.run(check_start(environment.settings))  # before the server, which would bury what it says in a trace
        return server.run(create_app(environment.settings), environment.settings)


def worker(home: Path | None) -> int:
    """Work until a signal."""
    from nexusrag import worker as process  # heavy: only when working
    from nexusrag.process import check_start  # heavy: only when working

    with attach(load(home)) as environment:
        logs.configure(environment.settings.runtime.log_level)
        asyncio.run(check_start(environment.settings))
        process.run(environment.settings)
    return 0
