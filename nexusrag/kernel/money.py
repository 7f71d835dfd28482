"""US dollars: Decimals, kept exact to a pico-dollar and shown to a micro-dollar, half-even."""

from collections.abc import Mapping
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import TypeVar

K = TypeVar("K")
_KEPT, _SHOWN = Decimal("1e-12"), Decimal("1e-6")
# Enough for numeric(24,12) times any quantity, whatever the process's own context is.
_EXACTLY = Context(prec=60, rounding=ROUND_HALF_EVEN)


def exact(amount: Decimal) -> Decimal:
    """`amount` as the ledger keeps it: 12 places."""
    return amount.quantize(_KEPT, context=_EXACTLY)


def shown(amount: Decimal) -> Decimal:
    """`amount` as people are told it: 6 places."""
    return amount.quantize(_SHOWN, context=_EXACTLY)


def times(rate: Decimal, quantity: Decimal, per: int = 1) -> Decimal:
    """What `quantity` costs at `rate` for each `per` of it, exact to 12 places."""
    return exact(_EXACTLY.divide(_EXACTLY.multiply(rate, quantity), Decimal(per)))


def text(amount: Decimal) -> str:
    """`amount` for a header or a cell: 6 places, never in powers of ten."""
    return f"{shown(amount):f}"


def apportioned(parts: Mapping[K, Decimal], total: Decimal) -> dict[K, Decimal]:
    """`parts`, whose exact sum is `total`, rounded to micro-dollars so that they add up to the rounded total.

    Each is at most a micro-dollar from what it is: those that lose most by rounding down are rounded up, of equals the earlier.
    """
    floors = {key: part.quantize(_SHOWN, ROUND_FLOOR, context=_EXACTLY) for key, part in parts.items()}
    missing = int((shown(total) - sum(floors.values(), Decimal(0))) / _SHOWN)
    by_loss = sorted(parts, key=lambda key: parts[key] - floors[key], reverse=True)
    return floors | {key: floors[key] + _SHOWN for key in by_loss[:missing]}
