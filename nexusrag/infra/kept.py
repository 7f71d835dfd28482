"""What a process keeps of what it has read, while it hears of changes: the one cache behind every answer that must not be old."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from nexusrag.infra.changes import Changes

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values by key, `ttl_s` seconds at most and `most` in number; nothing at all while changes are not being heard.

    Whoever reads takes `generation` first and puts with it: what was read before a change is not kept after it.
    """

    def __init__(self, changes: Changes, *, ttl_s: float, most: int) -> None:
        self._changes = changes
        self._ttl_s = ttl_s
        self._most = most
        self._held: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._generation = 0

    @property
    def generation(self) -> int:
        """Changes whenever something is dropped."""
        return self._generation

    def get(self, key: K) -> V | None:
        held = self._held.get(key)
        return held[0] if held is not None and held[1] > monotonic() else None

    def put(self, key: K, value: V, generation: int) -> None:
        if not self._changes.live or generation != self._generation:
            return
        self._held[key] = value, monotonic() + self._ttl_s
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def drop(self, key: K) -> None:
        self._generation += 1
        self._held.pop(key, None)

    def drop_where(self, concerned: Callable[[V], bool]) -> None:
        self._generation += 1
        for key in [key for key, (value, _) in self._held.items() if concerned(value)]:
            del self._held[key]

    def clear(self) -> None:
        self._generation += 1
        self._held.clear()
