"""The one source of the current time; every time in the product is UTC and aware."""

from datetime import UTC, datetime

_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime | None) -> str | None:
    """RFC 3339 text of `moment` with a `Z`, or None."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def seconds(moment: datetime | None) -> str | None:
    """The same to the second, in one fixed form that sorts by time."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def within_calendar(moment: datetime) -> datetime:
    """The aware moment in UTC. At its ends the calendar cannot be counted with, and the driver takes them for infinity: a day less."""
    return min(max(moment, _FIRST), _LAST).astimezone(UTC)


def parse(text: str) -> datetime:
    """The moment that `isoformat` wrote."""
    return datetime.fromisoformat(text).astimezone(UTC)
