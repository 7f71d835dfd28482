"""Values as policies compare them: strings, numbers, booleans and lists of them. None stands for missing and for JSON's null.

Comparisons are three-valued: true, false, or None (unknown) where an operand is missing or of a type that does not fit. They are
those of `alembic/versions/0004_functions.sql`, function by function.
"""

from decimal import Decimal
from math import isfinite
from typing import Any, TypeAlias

Outcome: TypeAlias = bool | None
Key: TypeAlias = str | tuple[str, Any]

SCALARS = frozenset({"string", "number", "boolean"})
_KINDS: dict[type, str] = {str: "string", bool: "boolean", int: "number", list: "list", tuple: "list"}


def kind(value: Any) -> str | None:
    """`string`, `number`, `boolean` or `list`; None for what conditions cannot compare."""
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    if isinstance(value, float):
        return "number" if isfinite(value) else None
    return "string" if isinstance(value, str) else None


def storable(text: str) -> bool:
    """Whether a JSON value of PostgreSQL can hold the text: it has no NUL and no half of a surrogate pair."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def number(value: float) -> int | Decimal:
    """The number that JSON writes for `value`: 1e23 is ten to the 23rd, and not the nearest binary fraction."""
    if isinstance(value, int):
        return value
    return int(value) if value.is_integer() and abs(value) < 2**53 else Decimal(repr(value))


def key(value: Any) -> Key | None:
    """Equal for equal scalars, different for different ones, strings and numbers among them; None for all else."""
    if type(value) is str:
        return value
    sort = kind(value)
    if sort == "string":
        return str(value)
    if sort == "number":
        return sort, number(value)
    return (sort, value) if sort == "boolean" else None


def equal(a: Any, b: Any) -> Outcome:
    sort = kind(a)
    if sort not in SCALARS or sort != kind(b):
        return None
    if sort == "number" and type(a) is not type(b):
        return number(a) == number(b)
    return bool(a == b)


def differ(a: Any, b: Any) -> Outcome:
    same = equal(a, b)
    return None if same is None else not same


def less(a: Any, b: Any) -> Outcome:
    """Numbers by size, strings by code points."""
    sort = kind(a)
    if sort != kind(b) or sort not in ("number", "string"):
        return None
    if sort == "number" and type(a) is not type(b):
        return number(a) < number(b)
    return bool(a < b)


def at_most(a: Any, b: Any) -> Outcome:
    more = less(b, a)
    return None if more is None else not more


def within(needle: Any, haystack: Any) -> Outcome:
    """Whether the scalar is one of the list."""
    if kind(haystack) != "list" or kind(needle) not in SCALARS:
        return None
    return _holds(haystack, needle)


def contains(haystack: Any, needle: Any) -> Outcome:
    """Whether the list holds the scalar, or the text the text."""
    sort, sought = kind(haystack), kind(needle)
    if sort == "list" and sought in SCALARS:
        return _holds(haystack, needle)
    return needle in haystack if sort == sought == "string" else None


def starts(text: Any, prefix: Any) -> Outcome:
    return text.startswith(prefix) if kind(text) == kind(prefix) == "string" else None


def _holds(haystack: Any, needle: Any) -> bool:
    if isinstance(needle, str):
        return needle in haystack
    sought = key(needle)
    return any(key(item) == sought for item in haystack)
