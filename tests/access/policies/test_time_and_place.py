"""time_between and ip_in."""

from datetime import UTC, date, timedelta
from typing import Any

import pytest

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.evaluate import compiled
from nexusrag.access.policies.language import PolicyError
from nexusrag.access.policies.window import Window, read_window
from tests.access.policies.conditions import read


def during(window: dict[str, Any], moment: str | None) -> bool | None:
    node = read({"time_between": [{"var": "request.time"}, window]})
    return compiled(node)(Attributes({}, {"time": moment}))


NINE_TO_SIX = {"start": "09:00", "end": "18:00"}
NIGHT = {"start": "22:00", "end": "02:00"}
BERLIN = {"start": "02:30", "end": "03:30", "tz": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("window", "moment", "open_"),
    [
        (NINE_TO_SIX, "2026-01-05T08:59:59.999Z", False),
        (NINE_TO_SIX, "2026-01-05T09:00:00Z", True),
        (NINE_TO_SIX, "2026-01-05T17:59:59.999Z", True),
        (NINE_TO_SIX, "2026-01-05T18:00:00Z", False),
        (NINE_TO_SIX, "2026-01-05T18:30:00+02:00", True),
        ({**NINE_TO_SIX, "tz": "America/New_York"}, "2026-01-05T13:59:59Z", False),
        ({**NINE_TO_SIX, "tz": "America/New_York"}, "2026-01-05T14:00:00Z", True),
        # In summer an hour earlier, by the same clock.
        ({**NINE_TO_SIX, "tz": "America/New_York"}, "2026-07-06T13:00:00Z", True),
        ({**NINE_TO_SIX, "tz": "Asia/Kolkata"}, "2026-01-05T03:30:00Z", True),
        # Over midnight. The day is that on which the window began: 2026-01-05 was a Monday.
        (NIGHT, "2026-01-05T21:59:59Z", False),
        (NIGHT, "2026-01-05T22:00:00Z", True),
        (NIGHT, "2026-01-06T00:00:00Z", True),
        (NIGHT, "2026-01-06T01:59:59Z", True),
        (NIGHT, "2026-01-06T02:00:00Z", False),
        ({**NIGHT, "days": ["mon"]}, "2026-01-05T23:00:00Z", True),
        ({**NIGHT, "days": ["mon"]}, "2026-01-06T01:00:00Z", True),
        ({**NIGHT, "days": ["mon"]}, "2026-01-06T23:00:00Z", False),
        ({**NIGHT, "days": ["mon"]}, "2026-01-05T01:00:00Z", False),
        ({**NIGHT, "days": ["sun"]}, "2026-01-05T01:00:00Z", True),
        ({**NINE_TO_SIX, "days": ["sat", "sun"]}, "2026-01-10T12:00:00Z", True),
        ({**NINE_TO_SIX, "days": ["sat", "sun"]}, "2026-01-05T12:00:00Z", False),
        # By the clock of the zone it is already Tuesday there.
        ({"start": "00:00", "end": "24:00", "tz": "Asia/Tokyo", "days": ["tue"]}, "2026-01-05T16:00:00Z", True),
        ({"start": "00:00", "end": "24:00"}, "2026-01-05T23:59:59Z", True),
        ({"start": "22:00", "end": "00:00"}, "2026-01-05T23:59:59Z", True),
        ({"start": "22:00", "end": "00:00"}, "2026-01-06T00:00:00Z", False),
        # 2026-03-29: at 01:00 UTC the clocks of Berlin go from 02:00 to 03:00.
        (BERLIN, "2026-03-29T00:59:59Z", False),
        (BERLIN, "2026-03-29T01:00:00Z", True),
        (BERLIN, "2026-03-29T01:29:59Z", True),
        (BERLIN, "2026-03-29T01:30:00Z", False),
        # 2026-10-25: at 01:00 UTC they go from 03:00 back to 02:00, so 02:30 comes twice.
        (BERLIN, "2026-10-25T00:30:00Z", True),
        (BERLIN, "2026-10-25T01:00:00Z", False),
        (BERLIN, "2026-10-25T01:30:00Z", True),
        (BERLIN, "2026-10-25T02:29:59Z", True),
        (NINE_TO_SIX, None, None),
        (NINE_TO_SIX, "", None),
        (NINE_TO_SIX, "12:00", None),
        (NINE_TO_SIX, "2026-01-05T12:00:00", None),
        (NINE_TO_SIX, "2016-12-31T23:59:60Z", None),
        (NINE_TO_SIX, "0001-01-01T00:00:00+01:00", None),
    ],
)
def test_windows(window: dict[str, Any], moment: str | None, open_: bool | None) -> None:
    assert during(window, moment) is open_


@pytest.mark.parametrize("day", ["mon", "tue", "wed", "thu", "fri", "sat", "sun"])
def test_each_day_of_the_week_has_its_name(day: str) -> None:
    window, monday = {"start": "00:00", "end": "24:00", "days": [day]}, date(2026, 1, 5)
    days = [during(window, f"{monday + timedelta(days=number)}T12:00:00Z") for number in range(7)]
    assert [number for number, is_open in enumerate(days) if is_open] == [("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(day)]


def test_a_window_is_read_as_minutes_of_the_day_in_utc_unless_it_says_otherwise() -> None:
    assert read_window({"start": "09:05", "end": "24:00"}) == Window(9 * 60 + 5, 24 * 60, UTC, None)
    assert read_window({"start": "23:59", "end": "00:00", "tz": "UTC", "days": ["tue"]}) == Window(23 * 60 + 59, 0, UTC, frozenset({1}))


# By what the refusal begins with.
NO_WINDOWS: dict[str, list[Any]] = {
    'Give {"start"': [None, [], {}, "09:00", {"start": "09:00"}, {"end": "09:00"}, {**NINE_TO_SIX, "zone": "UTC"}],
    "start and end are the same": [{"start": "09:00", "end": "09:00"}, {"start": "00:00", "end": "00:00"}],
    "start and end are hours": [
        {"start": "9:00", "end": "18:00"}, {"start": "09:00", "end": "25:00"}, {"start": "24:00", "end": "09:00"},
        {"start": "09:60", "end": "18:00"}, {"start": "09:00:00", "end": "18:00"}, {"start": 9, "end": 18},
        {"start": "٠٩:00", "end": "18:00"}, {"start": "09:00\n", "end": "18:00"}, {"start": "09:00", "end": None},
    ],
    "tz is no time zone": [
        {**NINE_TO_SIX, "tz": tz}
        for tz in (
            "Berlin", "", None, 1, "../../etc/passwd", "/etc/localtime", "right/Europe/Berlin", "posixrules", "Europe", "A" * 5000,
            "Europe/Berlin\n",
        )
    ],
    "days is a list of mon, tue, wed, thu, fri, sat, sun": [
        {**NINE_TO_SIX, "days": days} for days in ([], "mon", None, ["monday"], ["mon", "Tue"], [0], [["mon"]])
    ],
}  # fmt: skip


@pytest.mark.parametrize(("window", "why"), [(window, why) for why, windows in NO_WINDOWS.items() for window in windows])
def test_what_is_no_window(window: Any, why: str) -> None:
    with pytest.raises(PolicyError) as caught:
        during(window, None)
    assert caught.value.path == "$.time_between[1]"
    assert caught.value.message.startswith(why)


def within(networks: Any, address: str | None) -> bool | None:
    node = read({"ip_in": [{"var": "request.ip"}, networks]})
    return compiled(node)(Attributes({}, {"ip": address}))


@pytest.mark.parametrize(
    ("networks", "address", "inside"),
    [
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8", "192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["2001:db8::/32"], "2001:db8:ffff::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        # The same caller, however the socket writes the address.
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "10.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "11.0.0.1", False),
        (["::/0"], "10.0.0.1", False),
        (["0.0.0.0/0"], "::1", False),
        (["0.0.0.0/0"], "::ffff:1.2.3.4", True),
        (["0.0.0.0/8"], "::1", False),
        (["10.0.0.0/8"], None, None),
        (["10.0.0.0/8"], "", None),
        (["10.0.0.0/8"], "localhost", None),
        (["10.0.0.0/8"], "10.0.0.1:443", None),
        (["10.0.0.0/8"], "010.0.0.1", None),
    ],
)
def test_networks(networks: Any, address: str | None, inside: bool | None) -> None:
    assert within(networks, address) is inside


@pytest.mark.parametrize(
    "networks",
    [None, [], "10.0.0.0/8", {}, [10], [None], ["10.0.0.1/8"], ["10.0.0.0/33"], ["example.org"], [""], ["2001:db8::/129"], ["fe80::%1/64"]],
)
def test_what_is_no_network(networks: Any) -> None:
    with pytest.raises(PolicyError) as caught:
        within(networks, None)
    assert caught.value.path == "$.ip_in[1]"


def test_the_network_that_is_none_is_named_by_its_place() -> None:
    with pytest.raises(PolicyError, match="Number 3 "):
        within(["10.0.0.0/8", "::1", "nowhere"], None)
