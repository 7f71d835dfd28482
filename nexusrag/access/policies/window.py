"""Hours of the day for `time_between`, on the clocks of a time zone."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
# Names of the tz database. Its other files, such as posixrules or the tables with leap seconds, begin with a small letter.
_ZONE = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to before `end`, in minutes of the day. Where `end` is not later it is the next day's.

    `days` (0 is Monday) are those on which a window begins; None is every day.
    """

    start: int
    end: int
    zone: tzinfo
    days: frozenset[int] | None

    def holds(self, local: datetime) -> bool:
        """Whether the window is open at this time of its zone. An hour that the clocks repeat is in it both times."""
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return self.start <= minute < self.end and self._begins(day)
        return self._begins(day) if minute >= self.start else minute < self.end and self._begins((day - 1) % 7)

    def _begins(self, day: int) -> bool:
        return self.days is None or day in self.days


def read_window(given: Any) -> Window:
    """From `{"start": "09:00", "end": "18:00", "tz"?: …, "days"?: […]}`. Raises ValueError that says what to do."""
    if not isinstance(given, dict) or not {"start", "end"} <= set(given) <= {"start", "end", "tz", "days"}:
        raise ValueError('Give {"start": "HH:MM", "end": "HH:MM"}, with "tz" and "days" if needed, and nothing beside it.')
    # The end of the day has a name, so that a window can be a whole day.
    start, end = _minutes(given["start"]), 24 * 60 if given["end"] == "24:00" else _minutes(given["end"])
    if start == end:
        raise ValueError("start and end are the same, which could be a whole day or no time at all; write 00:00 to 24:00.")
    return Window(start, end, _zone(given.get("tz", "UTC")), _days(given["days"]) if "days" in given else None)


def _minutes(given: Any) -> int:
    found = _CLOCK.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise ValueError("start and end are hours and minutes from 00:00 to 23:59, such as 09:00; end may be 24:00.")
    return int(found[1]) * 60 + int(found[2])


def _zone(given: Any) -> tzinfo:
    if given == "UTC":
        return UTC
    try:
        if isinstance(given, str) and len(given) <= 64 and _ZONE.fullmatch(given):
            return ZoneInfo(given)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass  # refused below, like what is no name at all
    raise ValueError("tz is no time zone of the tz database, such as Europe/Berlin.")


def _days(given: Any) -> frozenset[int]:
    if not isinstance(given, list) or not given or not all(isinstance(day, str) and day in _DAYS for day in given):
        raise ValueError(f"days is a list of {', '.join(_DAYS)}.")
    return frozenset(_DAYS.index(day) for day in given)
