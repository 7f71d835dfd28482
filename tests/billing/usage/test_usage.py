"""What tenants are told of their use."""

import asyncio
import json
from datetime import timedelta

import pytest

from nexusrag.billing.usage import jobs
from nexusrag.kernel import clock
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, rows
from tests.support.processes import until

TEXT = "The lighthouse keeper is called Ada Moreau."


async def of_day(person: Person, **query: str) -> tuple[int, int]:
    today = clock.now().date().isoformat()
    answer = await person.get(f"/v1/admin/usage/{person.tenant}", params={"period": "day", "start": today, **query})
    assert answer.status_code == 200, answer.text
    told = answer.json()["data"]
    assert (told["tenant_id"], told["period_type"], told["period_start"]) == (person.tenant, "day", today)
    return told["requests_count"], told["estimated_tokens_count"]


async def asked_once(api: Api) -> Person:
    """Somebody whose tenant has ingested a text and asked about it."""
    person = await api.person()
    corpus = await person.corpus()
    await person.text(corpus, TEXT)
    await person.run(corpus, "Who is the lighthouse keeper?")
    return person


async def test_a_run_and_what_went_before_it_are_counted(api: Api) -> None:
    person = await asked_once(api)

    async def counted() -> bool:
        units, tokens = await of_day(person)
        return units >= 6 and tokens > 0  # a corpus, a text, at least one look at it, and a run's three

    await until(counted)
    summary = (await person.get("/v1/self-serve/usage/summary")).json()["data"]
    assert (summary["window_days"], summary["requests"]["runs"]) == (30, 1)
    assert summary["requests"]["total"] == (await of_day(person))[0]
    assert summary["requests"]["tokens"] == (await of_day(person))[1]
    assert summary["ingestion"]["documents"] == 1
    assert summary["ingestion"]["embedding_tokens"] > 0
    assert summary["rate_limit_hits"] == {"total": 0}
    assert summary["quota"]["day"]["limit"] is None
    assert len(await audited(api, person.tenant, "selfserve.usage.viewed")) == 1


async def test_a_month_is_named_by_any_of_its_days_and_what_was_not_used_is_zero(api: Api) -> None:
    person = await api.person()
    answer = await person.get(f"/v1/admin/usage/{person.tenant}?start=2026-02-17")
    assert answer.json()["data"] == {
        "tenant_id": person.tenant, "period_type": "month", "period_start": "2026-02-01", "requests_count": 0, "estimated_tokens_count": 0,
    }  # fmt: skip


@pytest.mark.parametrize("query", ["", "start=yesterday", "start=2026-02-30", "start=2026-02-01&period=year"])
async def test_periods_that_are_none_are_refused(api: Api, query: str) -> None:
    person = await api.person()
    assert error_of(await person.get(f"/v1/admin/usage/{person.tenant}?{query}")) == ("VALIDATION_ERROR", 422)


async def test_operators_see_any_tenants_use_and_nobody_else_does(api: Api) -> None:
    operator, customer, other = await api.operator(), await api.person(), await api.person()
    where = f"/v1/admin/usage/{customer.tenant}?start=2026-02-01"
    assert (await operator.get(where)).json()["data"]["tenant_id"] == customer.tenant
    assert error_of(await other.get(where)) == ("NOT_FOUND", 404)
    reader = await api.person("reader", tenant=customer.tenant)
    for path in (where, "/v1/self-serve/usage/summary", "/v1/self-serve/usage/timeseries"):
        assert error_of(await reader.get(path)) == ("AUTH_FORBIDDEN", 403)


async def test_series_have_a_point_for_each_day_or_hour(api: Api) -> None:
    person = await asked_once(api)
    today = clock.now().date()
    for metric, least in (("runs", 1), ("tokens", 1), ("requests", 3)):
        told = (await person.get(f"/v1/self-serve/usage/timeseries?metric={metric}&days=7")).json()["data"]
        assert (told["metric"], told["granularity"], len(told["points"])) == (metric, "day", 7)
        assert told["points"][0]["ts"] == f"{today - timedelta(days=6)}T00:00:00Z"
        assert (told["points"][-1]["ts"], [point["value"] for point in told["points"][:-1]]) == (f"{today}T00:00:00Z", [0] * 6)
        assert told["points"][-1]["value"] >= least
    for metric in ("runs", "tokens"):
        told = (await person.get(f"/v1/self-serve/usage/timeseries?metric={metric}&days=2&granularity=hour")).json()["data"]
        assert 25 <= len(told["points"]) <= 48
        assert sum(point["value"] for point in told["points"]) >= 1
    assert error_of(await person.get("/v1/self-serve/usage/timeseries?granularity=hour")) == ("VALIDATION_ERROR", 422)


@pytest.mark.parametrize("query", ["metric=karma", "granularity=week", "days=0", "days=367", "days=x"])
async def test_series_that_are_none_are_refused(api: Api, query: str) -> None:
    person = await api.person()
    assert error_of(await person.get(f"/v1/self-serve/usage/timeseries?{query}")) == ("VALIDATION_ERROR", 422)


async def test_what_a_day_came_to_is_on_record_once_it_is_over(api: Api) -> None:
    person = await api.person()
    yesterday = (clock.now() - timedelta(minutes=10)).date() - timedelta(days=1)
    counted = "insert into usage_periods (tenant_id, period, starts_on, plain_units, units, held_units, tokens, usd) values "
    days = ((yesterday, 0), (yesterday - timedelta(days=1), 3), (yesterday + timedelta(days=1), 0))
    for day, held in days:
        await rows(api, f"{counted} ($1, 'day', $2, 2, 3, $3, 70, 0.5)", person.tenant, day, held)
    for _ in range(2):
        await asyncio.gather(*(jobs.record_usage(api.resources) for _ in range(3)))
    (event,) = await audited(api, person.tenant, "billing.usage_recorded")  # of the day before something is under way, and today goes on
    told = {"period": "day", "period_start": yesterday.isoformat(), "units": 5, "tokens": 70, "usd": "0.500000"}
    assert json.loads(event["metadata"]) == told
