"""What processes share through scripts in Redis. Whoever asks has an answer of their own for when Redis is away."""

import asyncio
from collections.abc import Sequence
from typing import Any

from nexusrag.infra.redis import UNREACHABLE, Redis, RedisAwayError

_LEFT_ALONE_S = 5.0


class Shared:
    """Runs scripts: within the budget that Redis has for every caller, or with a patience of their own where a wrong answer costs more."""

    def __init__(self, redis: Redis | None, *, patience_s: float | None = None) -> None:
        """Without `redis` it is always away."""
        self._redis = redis
        self._patience_s = patience_s
        self._away_until = 0.0
        self._scripts: dict[str, Any] = {}

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int | float]) -> Any | None:
        """What the script answers, which must not be null; None when Redis is away."""
        if self._redis is None:
            return None
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self._redis.client.register_script(script)
        if self._patience_s is not None:
            return await self._patiently(known, keys, arguments, self._patience_s)
        try:
            return await self._redis.ask(lambda: known(keys=keys, args=arguments))
        except RedisAwayError:
            return None

    async def _patiently(self, script: Any, keys: Sequence[str], arguments: Sequence[str | int | float], patience_s: float) -> Any | None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            return None
        try:
            async with asyncio.timeout(patience_s):
                return await script(keys=keys, args=arguments)
        except UNREACHABLE:
            self._away_until = loop.time() + _LEFT_ALONE_S
            return None
