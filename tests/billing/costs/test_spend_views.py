"""Views of what was spent: they add up, are the tenant's own, and have a point for every day and hour."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from nexusrag.kernel import clock
from tests.billing.costs.support import line, spend
from tests.support.api import Api, Person, error_of

BASES = ("/v1/admin/costs/spend", "/v1/self-serve/costs/spend")
FEBRUARY = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)


async def view(person: Person, what: str, base: str = BASES[0], **query: Any) -> Any:
    answer = await person.get(f"{base}/{what}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@pytest.mark.parametrize("base", BASES)
async def test_a_month_is_summarised_by_what_was_used_where_and_for_what(api: Api, base: str) -> None:
    admin, other = await api.person(), await api.person()
    await spend(api, admin, line("1.25"), line("0.5", "embedding", "local"), at=FEBRUARY)
    await spend(api, admin, line("2", "tts"), at=FEBRUARY - timedelta(days=28), route_class="mutation")
    await spend(api, admin, line("64"), at=FEBRUARY + timedelta(seconds=1))  # the first second of March
    await spend(api, admin, line("128"), at=FEBRUARY - timedelta(days=29))  # the last one of January
    await spend(api, other, line("256"), at=FEBRUARY)
    assert await view(admin, "summary", base, year_month="2024-02") == {
        "period": "month", "year_month": "2024-02", "total_usd": 3.75, "by_component": {"embedding": 0.5, "llm": 1.25, "tts": 2},
        "by_provider": {"local": 0.5, "openai": 3.25}, "by_route_class": {"mutation": 2, "run": 1.75}, "held_usd": 0,
    }  # fmt: skip
    empty = await view(admin, "summary", base)
    assert (empty["year_month"], empty["total_usd"], empty["by_component"]) == (f"{clock.now():%Y-%m}", 0, {})


async def test_a_month_is_broken_down_by_one_thing(api: Api) -> None:
    admin = await api.person()
    await spend(api, admin, line("1"), line("2", model=None), at=FEBRUARY)
    await spend(api, admin, line("4", "storage"), at=FEBRUARY, route_class="mutation", user_id=None, credential_id=None)
    for by, parts in {
        "component": {"llm": 3, "storage": 4}, "provider": {"openai": 7}, "route_class": {"run": 3, "mutation": 4},
        "model": {"m": 5, "": 2}, "user": {admin.user_id: 3, "": 4}, "key": {admin.key_id: 3, "": 4},
    }.items():  # fmt: skip
        found = await view(admin, "breakdown", year_month="2024-02", by=by)
        assert found == {"period": "month", "year_month": "2024-02", "by": by, "breakdown": parts, "total_usd": 7}
    assert (await view(admin, "breakdown", BASES[1], year_month="2024-02"))["by"] == "component"


async def test_what_is_shown_adds_up_though_each_part_is_rounded(api: Api) -> None:
    admin = await api.person()
    for number in range(9):
        await spend(api, admin, line("0.0000005", provider=f"p{number}"), at=FEBRUARY)
    found = await view(admin, "summary", year_month="2024-02")
    assert found["total_usd"] == 0.000004  # half a micro-dollar goes to the even neighbour
    assert sum(Decimal(str(part)) for part in found["by_provider"].values()) == Decimal("0.000004")


@pytest.mark.parametrize(("granularity", "days", "count"), [("day", 7, 7), ("day", 1, 1), ("hour", 2, 48), ("day", None, 30)])
async def test_every_day_and_hour_of_the_window_has_a_point(api: Api, granularity: str, days: int | None, count: int) -> None:
    admin = await api.person()
    now = clock.now()
    await spend(api, admin, line("1"), at=now)
    await spend(api, admin, line("2"), at=now - timedelta(days=400))
    query: dict[str, Any] = {"granularity": granularity, **({"days": days} if days else {})}
    found = await view(admin, "timeseries", **query)
    assert (found["window_days"], found["granularity"], len(found["points"])) == (days or 30, granularity, count)
    starts = [datetime.fromisoformat(point["ts"]) for point in found["points"]]
    step = timedelta(hours=1) if granularity == "hour" else timedelta(days=1)
    assert all(after - before == step for before, after in pairwise(starts))
    assert starts[-1] <= now < starts[-1] + step or starts[-1] == now.replace(minute=0, second=0, microsecond=0) + step
    assert [point["total_usd"] for point in found["points"] if point["total_usd"]] == [1]


async def test_spending_is_at_the_hour_in_which_it_began(api: Api) -> None:
    admin = await api.person()
    hour = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    for usd, minutes in (("1", 0), ("2", 59), ("4", -1)):
        await spend(api, admin, line(usd), at=hour + timedelta(minutes=minutes))
    points = {point["ts"]: point["total_usd"] for point in (await view(admin, "timeseries", days=1, granularity="hour"))["points"]}
    assert [points[clock.iso(hour + timedelta(hours=ahead)) or ""] for ahead in (-1, 0, 1)] == [4, 3, 0]


@pytest.mark.parametrize(
    "query",
    [
        "summary?year_month=2024-13", "summary?year_month=24-01", "summary?period=year", "breakdown?by=mood", "timeseries?days=0",
        "timeseries?days=367", "timeseries?granularity=minute",
    ],
)  # fmt: skip
async def test_a_question_that_makes_no_sense_is_refused(api: Api, query: str) -> None:
    admin = await api.person()
    for base in BASES:
        assert error_of(await admin.get(f"{base}/{query}")) == ("VALIDATION_ERROR", 422)
