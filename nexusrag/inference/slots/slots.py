"""Places among the model calls of all processes: taken, waited for in turn, kept alive, given back.

Redis knows who has one. While it is away each process gives out its share of them, which is what all processes would have together.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from nexusrag.inference.slots.scripts import LEAVE, LOOK, RENEW, RESET, TAKE
from nexusrag.infra.metrics import SLOT_WAIT
from nexusrag.infra.redis import UNREACHABLE, Redis
from nexusrag.infra.shared import Shared
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings import Settings

_LEASE_MS = 10_000
_PATIENCE_S = 2.0  # callers wait anyway, and taking Redis for away gives out more places than there are
_PAUSE_S = 0.5
_MOST_TURNS = 10_000


@dataclass(slots=True)
class _Waiter:
    tenant_id: str
    served: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, slots=True)
class Taken:
    """Who has places and who waits, by tenant. `everywhere` is False when Redis is away, and only this process is known."""

    holders: Counter[str]
    waiters: Counter[str]
    everywhere: bool


class ModelSlots:
    """The places as one process sees them. `total` 0: there is no limit."""

    def __init__(self, settings: Settings, redis: Redis, *, lease_ms: int = _LEASE_MS) -> None:
        chosen = settings.resilience
        offline = settings.llm.llm_provider in ("extractive", "fake") and not chosen.llm_slots_offline
        self.total = 0 if offline else chosen.llm_max_concurrency
        self._wait_s = chosen.llm_slot_wait_timeout_s
        self._prefix = chosen.llm_slot_redis_prefix
        self._process = secrets.token_hex(8)
        self._lease_ms = lease_ms
        self._redis = redis
        self._shared = Shared(redis, patience_s=_PATIENCE_S)
        self._processes = 1
        self._held: dict[str, str] = {}
        self._waiting: dict[str, _Waiter] = {}
        self._served: dict[str, None] = {}  # tenants, the one that was given a place longest ago first
        self._turn = asyncio.Lock()  # a renewal under way would bring back what is given back meanwhile
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def place(self, tenant_id: str, *, wait_s: float | None = None) -> AsyncIterator[None]:
        """Hold a place. Waits for one, at most `wait_s` where that is less than the setting. Raises SERVICE_BUSY."""
        token = f"{self._process}-{secrets.token_hex(8)}"
        began = perf_counter()
        try:
            await self._take(token, tenant_id, self._wait_s if wait_s is None else min(wait_s, self._wait_s))
            SLOT_WAIT.observe(perf_counter() - began)
            yield
        finally:
            self._give_back(token)

    async def look(self) -> Taken:
        """Who has places and who waits."""
        seen = await self._shared.run(LOOK, [self._prefix], [])
        if seen is None:
            return Taken(Counter(self._held.values()), Counter(waiter.tenant_id for waiter in self._waiting.values()), False)
        holders, waiters = (Counter(tenant.decode() for tenant in tenants) for tenants in seen)
        return Taken(holders, waiters, True)

    async def reset(self) -> int:
        """Free every place, in all processes; how many there were. Calls under way go on, and count again within seconds.

        Raises SERVICE_UNAVAILABLE when Redis is away.
        """
        freed = await self._shared.run(RESET, [self._prefix], [self._process, self.total, self._lease_ms])
        if freed is None:
            raise ApiError(
                ErrorCode.SERVICE_UNAVAILABLE, "The places are not known at the moment; try again.", headers={"Retry-After": "1"}
            )
        return int(freed)

    async def close(self) -> None:
        """Ends what keeps places alive, after what is being given back has been."""
        for task in (self._keeping, self._listening):
            if task is not None:
                task.cancel()
                self._tasks.add(task)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, token: str, tenant_id: str, wait_s: float) -> None:
        waiter = self._waiting[token] = _Waiter(tenant_id)
        answer = await self._shared.run(TAKE, [self._prefix], [self._process, self.total, self._lease_ms, token, tenant_id])
        if answer is None:
            self._serve_locally()
        else:
            taken, self._processes = answer
            if taken:
                self._serve(token)
        self._keep()
        if waiter.served.done():
            return
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="model-slots-inbox")
        try:
            async with asyncio.timeout(wait_s):
                await waiter.served
        except TimeoutError:
            raise _busy(self.total) from None

    def _give_back(self, token: str) -> None:
        self._waiting.pop(token, None)
        self._held.pop(token, None)
        task = asyncio.create_task(self._leave(token), name="model-slots-leave")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _leave(self, token: str) -> None:
        async with self._turn:
            answer = await self._shared.run(LEAVE, [self._prefix], [self._process, self.total, self._lease_ms, token])
        if answer is None:
            self._serve_locally()  # what Redis has kept of it is over with its lease

    def _serve(self, token: str) -> None:
        waiter = self._waiting.pop(token, None)
        if waiter is not None:  # else it has left, and gives the place back
            self._held[token] = waiter.tenant_id
            self._served.pop(waiter.tenant_id, None)
            self._served[waiter.tenant_id] = None
            if len(self._served) > _MOST_TURNS:
                del self._served[next(iter(self._served))]
            if not waiter.served.done():
                waiter.served.set_result(None)

    def _serve_locally(self) -> None:
        """Give out this process's share, in the order in which Redis does."""
        share = max(1, self.total // self._processes)
        while self._waiting and len(self._held) < share:
            has, turns = Counter(self._held.values()), {tenant: turn for turn, tenant in enumerate(self._served)}
            tenants = dict.fromkeys(waiter.tenant_id for waiter in self._waiting.values())
            tenant = min(tenants, key=lambda one: (has[one], turns.get(one, -1)))
            self._serve(next(token for token, waiter in self._waiting.items() if waiter.tenant_id == tenant))

    def _keep(self) -> None:
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._renew(), name="model-slots-renewal")

    async def _renew(self) -> None:
        """Keep leases alive while there are any; find out what was lost on the way, and by Redis."""
        while self._held or self._waiting:
            await asyncio.sleep(self._lease_ms / 5000)
            async with self._turn:
                holders = [part for item in self._held.items() for part in item]
                waiters = [part for token, waiter in self._waiting.items() for part in (token, waiter.tenant_id)]
                if not holders and not waiters:
                    return
                arguments: list[str | int | float] = [self._process, self.total, self._lease_ms, len(holders) // 2, *holders, *waiters]
                answer = await self._shared.run(RENEW, [self._prefix], arguments)
            if answer is None:
                self._serve_locally()
                continue
            self._processes = answer[0]
            for token in answer[1:]:
                self._serve(token.decode())

    async def _listen(self) -> None:
        """Hear of places that were given to waiters of this process, while there are any."""
        while self._waiting:
            try:
                heard = await self._inbox()
            except UNREACHABLE:
                await asyncio.sleep(_PAUSE_S)
                continue
            if heard is not None:
                self._serve(heard[1].decode())

    def _inbox(self) -> Any:
        return self._redis.client.blpop([f"{self._prefix}:inbox:{self._process}"], timeout=1)


def _busy(total: int) -> ApiError:
    return ApiError(
        ErrorCode.SERVICE_BUSY,
        "The language model has as many calls as it may; try again shortly.",
        {"limit": total},
        headers={"Retry-After": "1"},
    )
