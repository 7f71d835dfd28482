"""What becomes so soon: changes reach every process through the database's notifications. How soon is not for a test to say."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def soon(look: Callable[[], Awaitable[T]], expected: T, within_s: float = 5) -> None:
    """Look until it is as expected. Fails with what was seen last."""
    end = asyncio.get_running_loop().time() + within_s
    while (seen := await look()) != expected:
        assert asyncio.get_running_loop().time() < end, seen
        await asyncio.sleep(0.01)
