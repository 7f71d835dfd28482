"""Limits on what one process does at once. A full limit refuses at once instead of queueing, and is shared fairly between tenants."""

from collections import Counter
from collections.abc import Callable
from time import monotonic

from nexusrag.kernel.errors import ApiError, ErrorCode

# How long a tenant that was refused counts as waiting: it is told to come back after a second.
_WAITS_S = 2.0
# Who was refused over and over for so long gets the next place: with more tenants than places, whoever asks oftenest would get them all.
_LONG_S = 2.0


class Slot:
    """One place in a bulkhead, given back once however often `release` is called."""

    def __init__(self, bulkhead: "Bulkhead", tenant_id: str) -> None:
        self._bulkhead: Bulkhead | None = bulkhead
        self._tenant_id = tenant_id

    def release(self) -> None:
        if self._bulkhead is not None:
            self._bulkhead.give_back(self._tenant_id)
            self._bulkhead = None


class Bulkhead:
    """At most `limit` at once. `make_room` may free a place when all are taken, such as one of an abandoned run.

    While tenants wait that hold less than their share, the last places are theirs: whoever holds a share already gets none of them. And
    the very last is for the tenant that has waited longest, once that is long: one place alone, since it stands empty until they come.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.taken = 0
        self.make_room: Callable[[], bool] | None = None
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, float] = {}
        self._since: dict[str, float] = {}

    def acquire(self, tenant_id: str) -> Slot:
        """A place, or ApiError(SERVICE_BUSY)."""
        full = self.taken >= self.limit and not (self.make_room is not None and self.make_room() and self.taken < self.limit)
        if full or self._is_others(tenant_id):
            now = monotonic()
            if self._waiting.get(tenant_id, 0.0) <= now:
                self._since[tenant_id] = now
            self._waiting[tenant_id] = now + _WAITS_S
            raise ApiError(
                ErrorCode.SERVICE_BUSY, "All places are taken; try again shortly.", {"limit": self.limit}, headers={"Retry-After": "1"}
            )
        self._waiting.pop(tenant_id, None)
        self._since.pop(tenant_id, None)
        self.taken += 1
        self._held[tenant_id] += 1
        return Slot(self, tenant_id)

    def give_back(self, tenant_id: str) -> None:
        """For slots alone."""
        self.taken -= 1
        self._held[tenant_id] -= 1
        if not self._held[tenant_id]:
            del self._held[tenant_id]

    def _is_others(self, tenant_id: str) -> bool:
        """Whether the places that are left are for tenants that wait and hold less than their share, which this one holds."""
        now = monotonic()
        self._waiting = {waiting: until for waiting, until in self._waiting.items() if until > now}
        self._since = {waiting: since for waiting, since in self._since.items() if waiting in self._waiting}
        if not self._waiting.keys() - {tenant_id}:
            return False
        share = -(-self.limit // len(self._held.keys() | self._waiting.keys() | {tenant_id}))
        short = [waiting for waiting in self._waiting if waiting != tenant_id and self._held[waiting] < share]
        if self._held[tenant_id] >= share:
            return self.limit - self.taken <= len(short)
        longest = min(short, key=lambda waiting: self._since[waiting], default=None)
        if longest is None or self.limit - self.taken > 1 or self._held[longest] > self._held[tenant_id]:
            return False
        return now - self._since[longest] > _LONG_S and self._since[longest] < self._since.get(tenant_id, now)


class Bulkheads:
    """The bulkheads of a process, by name."""

    def __init__(self, limits: dict[str, int]) -> None:
        self._held = {name: Bulkhead(name, limit) for name, limit in limits.items()}

    def __getitem__(self, name: str) -> Bulkhead:
        return self._held[name]
