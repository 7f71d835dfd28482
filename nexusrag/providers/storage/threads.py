"""Threads for blocking input and output, apart from the event loop's own, which name resolution and others need."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """At most `limit` blocking calls at once; more wait."""

    def __init__(self, limit: int) -> None:
        self._pool = ThreadPoolExecutor(limit, thread_name_prefix="storage")

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread. A cancelled caller still waits for it to end, so that its cleanup meets no one at work."""
        running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # retrieved here: the caller is gone
            raise
