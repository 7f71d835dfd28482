"""The one source of the current time; every time in the product is UTC and aware."""

from datetime import UTC, datetime


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime | None) -> str | None:
    """RFC 3339 text of `moment` with a `Z`, or None."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def seconds(moment: datetime | None) -> str | None:
    """The same to the second, in one fixed form that sorts by time."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    """The moment that `isoformat` wrote."""
    return datetime.fromisoformat(text).astimezone(UTC)
