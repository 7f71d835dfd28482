"""Limits on what one process does at once. A full limit refuses at once instead of queueing."""

from collections.abc import Callable

from nexusrag.kernel.errors import ApiError, ErrorCode


class Slot:
    """One place in a bulkhead, given back once however often `release` is called."""

    def __init__(self, bulkhead: "Bulkhead") -> None:
        self._bulkhead: Bulkhead | None = bulkhead

    def release(self) -> None:
        if self._bulkhead is not None:
            self._bulkhead.taken -= 1
            self._bulkhead = None


class Bulkhead:
    """At most `limit` at once. `make_room` may free a place when all are taken, such as one of an abandoned run."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.taken = 0
        self.make_room: Callable[[], bool] | None = None

    def acquire(self) -> Slot:
        """A place, or ApiError(SERVICE_BUSY)."""
        if self.taken >= self.limit and not (self.make_room is not None and self.make_room() and self.taken < self.limit):
            raise ApiError(
                ErrorCode.SERVICE_BUSY, "All places are taken; try again shortly.", {"limit": self.limit}, headers={"Retry-After": "1"}
            )
        self.taken += 1
        return Slot(self)


class Bulkheads:
    """The bulkheads of a process, by name."""

    def __init__(self, limits: dict[str, int]) -> None:
        self._held = {name: Bulkhead(name, limit) for name, limit in limits.items()}

    def __getitem__(self, name: str) -> Bulkhead:
        return self._held[name]
