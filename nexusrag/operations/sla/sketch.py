"""Quantiles of what many processes measured: counts in buckets whose bounds grow by a constant factor (DDSketch), merged by adding.

A quantile is at most `ERROR` (relative) off the value of its rank, however many sketches were merged in whatever order.
"""

import struct
from math import ceil, isfinite, log

ERROR = 0.01
# Values are milliseconds: what is smaller or larger counts as this.
LEAST, MOST = 0.01, 1e8
_GAMMA = (1 + ERROR) / (1 - ERROR)
_LOG_GAMMA = log(_GAMMA)
_PAIR = struct.Struct("<hI")


class Sketch:
    """How many values lie in each bucket; bucket k holds those above gamma^(k-1) and up to gamma^k."""

    __slots__ = ("buckets", "count")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0

    def add(self, value: float) -> None:
        if not isfinite(value):
            return
        key = ceil(log(min(max(value, LEAST), MOST)) / _LOG_GAMMA)
        self.buckets[key] = self.buckets.get(key, 0) + 1
        self.count += 1

    def merge(self, other: "Sketch") -> None:
        for key, number in other.buckets.items():
            self.buckets[key] = self.buckets.get(key, 0) + number
        self.count += other.count

    def quantile(self, q: float) -> float | None:
        """The value of rank ceil(q × count), the smallest being of rank 1; None of nothing."""
        if not self.count:
            return None
        left = max(ceil(q * self.count), 1)
        for key in sorted(self.buckets):
            left -= self.buckets[key]
            if left <= 0:
                return float(2 * _GAMMA**key / (_GAMMA + 1))  # as far from the bucket's lower bound as from its upper one
        raise AssertionError("a sketch counts what it holds")

    def dump(self) -> bytes:
        return b"".join(_PAIR.pack(key, number) for key, number in sorted(self.buckets.items()))

    @classmethod
    def load(cls, raw: bytes) -> "Sketch":
        sketch = cls()
        for key, number in _PAIR.iter_unpack(raw):
            sketch.buckets[key] = number
            sketch.count += number
        return sketch
