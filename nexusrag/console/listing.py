"""What listings of the console share: the order that a client asks for, and a place in it."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError, ErrorCode

Fields = list[tuple[str, bool]]


def order_of(sort: str, sortable: Collection[str], default: str) -> Fields:
    """Fields of the order, each with whether it descends, ended by the id so that ties have an order. Raises BAD_REQUEST."""
    fields = [field.strip() for field in sort.split(",") if field.strip()] or [default]
    order = [(field.removeprefix("-"), field.startswith("-")) for field in fields]
    if any(name not in sortable for name, _ in order) or len(fields) > 3:
        raise ApiError(ErrorCode.BAD_REQUEST, f"sort: use up to three of {', '.join(sorted(sortable))}, each with or without '-'.")
    return order if any(name == "id" for name, _ in order) else [*order, ("id", order[-1][1])]


def plain(value: Any) -> Any:
    """A value of a position, as a cursor carries it."""
    return value.isoformat() if isinstance(value, datetime) else value


def position_of(names: Sequence[str], carried: Sequence[Any], moments: Collection[str]) -> list[Any]:
    """The values again; those of `moments` are times."""
    return [clock.parse(value) if name in moments else value for name, value in zip(names, carried, strict=True)]
