"""The Redis client of a process. Redis carries wake-ups; nothing that must not be lost."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import orjson
import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from nexusrag.infra.metrics import WAKE_UP_FAILURES
from nexusrag.settings.stores import StoreSettings

log = structlog.get_logger(__name__)
T = TypeVar("T")
UNREACHABLE = (RedisError, OSError, TimeoutError)


class Redis:
    """Commands with a short budget that never fail the caller: what Redis carries can be found without it."""

    def __init__(self, stores: StoreSettings, *, budget_s: float = 0.1) -> None:
        self.client: ArqRedis = ArqRedis.from_url(stores.redis_url.get_secret_value(), socket_connect_timeout=1, socket_timeout=5)
        # Not pickle, which ARQ would use: whoever can write to Redis could run code in the workers.
        self.client.job_serializer, self.client.job_deserializer = orjson.dumps, orjson.loads
        self._budget_s = budget_s
        self._away_until = 0.0

    async def wake(self, queue: str) -> bool:
        """Tell the workers of `queue` to look now. False when Redis is away; they look by themselves every two seconds."""
        return await self._attempt(self.client.enqueue_job("wake", _queue_name=queue, _expires=60)) is not None

    async def publish(self, channel: str) -> bool:
        """Tell readers elsewhere that a journal has grown."""
        return await self._attempt(self.client.publish(channel, b"")) is not None

    async def ping(self) -> bool:
        try:
            async with asyncio.timeout(1):
                return bool(await self.client.ping())
        except UNREACHABLE:
            return False

    async def _attempt(self, command: Awaitable[T]) -> T | None:
        # After a failure Redis is left alone for a second, so that its absence costs callers nothing.
        now = asyncio.get_running_loop().time()
        if now < self._away_until:
            _discard(command)
            WAKE_UP_FAILURES.inc()
            return None
        try:
            async with asyncio.timeout(self._budget_s):
                return await command
        except UNREACHABLE as error:
            self._away_until = now + 1
            WAKE_UP_FAILURES.inc()
            log.warning("redis.away", error=type(error).__name__)
            return None

    async def close(self) -> None:
        await self.client.aclose()


def _discard(command: Awaitable[object]) -> None:
    close = getattr(command, "close", None)
    if close is not None:
        close()
