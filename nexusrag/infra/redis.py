"""The Redis client of a process. Redis carries wake-ups; nothing that must not be lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import orjson
import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from nexusrag.infra.metrics import WAKE_UP_FAILURES
from nexusrag.infra.redis_line import RedisLine, Script
from nexusrag.settings.stores import StoreSettings

log = structlog.get_logger(__name__)
T = TypeVar("T")
UNREACHABLE = (RedisError, OSError, TimeoutError)
LISTEN_S = 0.1  # how often workers listen: a second wake-up within that time tells them nothing that one after it would not
# A busy process may come to read an answer late: after the budget it looks this often for one that is there already.
_LAST_LOOKS = 8


class RedisAwayError(Exception):
    """Redis did not answer within the budget, or has failed within the last second."""


class Redis:
    """Commands with a short budget that never fail the caller: what Redis carries can be found without it."""

    def __init__(self, stores: StoreSettings, *, budget_s: float = 0.1) -> None:
        self.client: ArqRedis = ArqRedis.from_url(stores.redis_url.get_secret_value(), socket_connect_timeout=1, socket_timeout=5)
        # Not pickle, which ARQ would use: whoever can write to Redis could run code in the workers.
        self.client.job_serializer, self.client.job_deserializer = orjson.dumps, orjson.loads
        self.line = RedisLine(self.client.connection_pool)
        self._budget_s = budget_s
        self._away_until = 0.0
        self._left_alone_until = 0.0
        self._woken: dict[str, bool] = {}  # queues that were woken just now; whether somebody has asked for it again since
        self._waking: set[asyncio.Task[bool]] = set()

    async def wake(self, queue: str) -> bool:
        """Tell the workers of `queue` to look, now or within `LISTEN_S` seconds: of many wake-ups in a row a few are sent.

        False when Redis is away; they look by themselves every two seconds.
        """
        if queue in self._woken:
            self._woken[queue] = True
            return True
        self._woken[queue] = False
        asyncio.get_running_loop().call_later(LISTEN_S, self._wake_again, queue)
        sent = await self._attempt(self.client.enqueue_job("wake", _queue_name=queue, _expires=60)) is not None
        if not sent:
            self._woken.pop(queue, None)
        return sent

    def _wake_again(self, queue: str) -> None:
        if self._woken.pop(queue, False):
            task = asyncio.create_task(self.wake(queue))
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)

    async def publish(self, *channels: str) -> bool:
        """Tell readers elsewhere that these journals have grown, in one round trip."""
        pipeline = self.client.pipeline(transaction=False)
        for channel in channels:
            pipeline.publish(channel, b"")
        return await self._attempt(pipeline.execute()) is not None

    @property
    def is_left_alone(self) -> bool:
        """Redis failed within the last second and is not asked."""
        return asyncio.get_running_loop().time() < self._left_alone_until

    async def ask(self, command: Callable[[], Awaitable[T]]) -> T:
        """The answer to a command, within the budget. Raises RedisAwayError, at once within a second of the last failure."""
        loop = asyncio.get_running_loop()
        if self.is_left_alone:
            raise RedisAwayError
        try:
            async with asyncio.timeout(None) as limit:
                patience = _Patience(loop, limit, self._budget_s)
                try:
                    return await command()
                finally:
                    patience.end()
        except UNREACHABLE as error:
            self._away_until = self._left_alone_until = loop.time() + 1
            self.line.hang_up()  # what it still answers would be late
            log.warning("redis.away", error=type(error).__name__)
            raise RedisAwayError from error

    def tell(self, command: Callable[[], T]) -> T:
        """What sends a command whose answer nobody waits for. Raises RedisAwayError while there is no connection."""
        try:
            return command()
        except UNREACHABLE as error:
            raise RedisAwayError from error

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
            self._away_until = now + 1  # of wake-ups alone: this process may be what is late
            WAKE_UP_FAILURES.inc()
            log.warning("redis.away", error=type(error).__name__)
            return None

    def script(self, text: str) -> Script:
        """Lua to be run on the line that all scripts share, within `ask`."""
        return Script(self.line, text)

    async def close(self) -> None:
        self._woken.clear()
        await self.line.close()
        await self.client.aclose()


class _Patience:
    """Ends a limit some turns of the loop after it is due: in each turn the loop reads what has come."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: asyncio.Timeout, budget_s: float) -> None:
        self._loop = loop
        self._limit = limit
        self._waiting: asyncio.Handle = loop.call_later(budget_s, self._wear_out, _LAST_LOOKS)

    def end(self) -> None:
        self._waiting.cancel()

    def _wear_out(self, looks: int) -> None:
        if looks:
            self._waiting = self._loop.call_soon(self._wear_out, looks - 1)
        else:
            self._limit.reschedule(self._loop.time())


def _discard(command: Awaitable[object]) -> None:
    close = getattr(command, "close", None)
    if close is not None:
        close()
