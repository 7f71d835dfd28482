"""The price catalogue over HTTP: what is accepted, what is in force when, and whose it is."""

from decimal import Decimal
from typing import Any

import pytest

from nexusrag.billing.costs.facade import Metered
from tests.billing.costs.support import CATALOG, JANUARY, add_price, lines_for, price, spend
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, rows

INVALID = ("COST_PRICING_INVALID", 422)


async def own(person: Person, **query: Any) -> list[Any]:
    """The tenant's own prices, as they are listed."""
    answer = await person.get(CATALOG, params=query)
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["data"]["items"] if one["scope"] == "tenant"]


async def test_a_price_is_added_listed_and_on_record(api: Api) -> None:
    admin = await api.person()
    made = await add_price(admin, metadata_json={"agreed": "2026-01"}, effective_to="2026-06-01T02:00:00+02:00")
    assert made == {
        "id": made["id"], "version": "v1", "provider": "openai", "component": "llm", "rate_type": "per_1k_tokens", "rate_value_usd": 0.5,
        "effective_from": "2026-01-01T00:00:00Z", "effective_to": "2026-06-01T00:00:00Z", "active": True,
        "metadata_json": {"agreed": "2026-01"}, "scope": "tenant", "metered": True,
    }  # fmt: skip
    assert await own(admin) == [made]
    (event,) = await audited(api, admin.tenant, "cost.pricing.updated")
    assert event["resource_id"] == made["id"]


@pytest.mark.parametrize("written", ["0.1", "0.000000000001", "123456789.123456789012", "2.5e-7", '"0.3"', "1"])
async def test_a_rate_is_taken_exactly_as_it_is_written(api: Api, written: str) -> None:
    admin = await api.person()
    body = '{"version":"v","provider":"p","component":"llm","rate_type":"per_1k_tokens","effective_from":"2026-01-01T00:00:00Z",'
    answer = await admin.post(CATALOG, content=f'{body}"rate_value_usd":{written}}}', headers={"Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text
    (row,) = await rows(api, "select rate_value_usd from prices where tenant_id = $1", admin.tenant)
    assert row["rate_value_usd"] == Decimal(written.strip('"'))
    assert answer.json()["data"]["rate_value_usd"] == float(written.strip('"'))


@pytest.mark.parametrize(
    "changes",
    [
        {"rate_value_usd": 0},
        {"rate_value_usd": -1},
        {"rate_value_usd": 1e12},
        {"rate_value_usd": 1e-13},
        {"rate_value_usd": "much"},
        {"rate_value_usd": "NaN"},
        {"rate_value_usd": "1e1000000"},
        {"effective_to": "2026-01-01T00:00:00Z"},
        {"effective_to": "2025-01-01T00:00:00Z"},
    ],
)
async def test_a_price_that_cannot_be_is_refused(api: Api, changes: Any) -> None:
    admin = await api.person()
    assert error_of(await admin.post(CATALOG, json=price(**changes))) == INVALID
    assert await own(admin) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"rate_type": "per_moon"}, {"version": ""}, {"provider": "x" * 65}, {"component": "a b"}, {"effective_from": "2026-01-01T00:00:00"},
        {"active": "yes"}, {"rate_value_usd": True}, {"rate_value_usd": None}, {"currency": "EUR"},
    ],
)  # fmt: skip
async def test_a_malformed_price_is_refused(api: Api, changes: Any) -> None:
    assert (await (await api.person()).post(CATALOG, json=price(**changes))).status_code == 422


async def test_what_is_used_at_the_highest_price_that_there_may_be_is_charged(api: Api) -> None:
    admin = await api.person()
    await add_price(admin, rate_value_usd=999_999_999, effective_from="2025-01-01T00:00:00Z")
    used = await lines_for(api, admin, Metered(component="llm", provider="openai", input_tokens=3_000_000), at=JANUARY)
    for _ in range(2):
        await spend(api, admin, *used, at=JANUARY)
    summary = (await admin.get("/v1/admin/costs/spend/summary", params={"year_month": "2026-01"})).json()["data"]
    assert summary["total_usd"] == 2 * 3_000 * 999_999_999


async def test_prices_of_one_rate_do_not_overlap(api: Api) -> None:
    admin = await api.person()
    first = await add_price(admin, effective_to="2026-03-01T00:00:00Z")
    for starts, ends in (("2026-01-01", "2026-02-01"), ("2026-02-28", None), ("2025-01-01", "2026-01-02"), ("2025-01-01", None)):
        body = price(effective_from=f"{starts}T00:00:00Z", effective_to=ends and f"{ends}T00:00:00Z")
        answer = await admin.post(CATALOG, json=body)
        assert error_of(answer) == INVALID
        assert answer.json()["error"]["details"]["overlaps"] == first["id"]
    # Where one ends the next may begin; another provider, component or rate type is another matter; so is what is not active.
    for changes in (
        {"effective_from": "2026-03-01T00:00:00Z"}, {"effective_to": "2026-01-01T00:00:00Z", "effective_from": "2025-01-01T00:00:00Z"},
        {"provider": "vertex"}, {"component": "embedding"}, {"rate_type": "per_request"}, {"active": False},
    ):  # fmt: skip
        await add_price(admin, **changes)
    assert len(await own(admin)) == 7
    assert len(await own(admin, active=True)) == 6
    assert [one["active"] for one in await own(admin, active=False)] == [False]


async def test_a_price_is_ended_and_followed_by_another(api: Api) -> None:
    admin = await api.person()
    first = await add_price(admin)
    idle = await add_price(admin, active=False, rate_value_usd=9)
    answer = await admin.patch(f"{CATALOG}/{idle['id']}", json={"active": True})
    assert error_of(answer) == INVALID
    assert error_of(await admin.patch(f"{CATALOG}/{first['id']}", json={"effective_to": "2026-01-01T00:00:00Z"})) == INVALID
    answer = await admin.patch(f"{CATALOG}/{first['id']}", json={"effective_to": "2026-02-01T00:00:00Z"})
    assert answer.json()["data"] == first | {"effective_to": "2026-02-01T00:00:00Z"}
    await add_price(admin, effective_from="2026-02-01T00:00:00Z", rate_value_usd=0.25)
    used = Metered(component="llm", provider="openai", input_tokens=1000)
    assert [one.usd for one in await lines_for(api, admin, used)] == [Decimal("0.25"), 0]
    assert [one.usd for one in await lines_for(api, admin, used, at=JANUARY)] == [Decimal("0.5"), 0]


async def test_the_price_in_force_is_found_for_any_instant(api: Api) -> None:
    admin = await api.person()
    where = "/v1/admin/costs/pricing/in-force"
    asked = {"component": "llm", "provider": "openai"}
    assert error_of(await admin.get(where, params=asked)) == ("COST_PRICING_NOT_FOUND", 404)
    made = await add_price(admin, effective_to="2026-02-01T00:00:00Z")
    assert error_of(await admin.get(where, params=asked)) == ("COST_PRICING_NOT_FOUND", 404)
    for at, status in (("2025-12-31T23:59:59.999999Z", 404), ("2026-01-01T00:00:00Z", 200), ("2026-02-01T00:00:00Z", 404)):
        assert (await admin.get(where, params={**asked, "at": at})).status_code == status
    found = (await admin.get(where, params={**asked, "at": "2026-01-31T23:59:59Z", "model": "gpt-4o"})).json()["data"]
    assert found["price"]["id"] == made["id"]
    built_in = (await admin.get(where, params={"component": "embedding", "provider": "local"})).json()["data"]["price"]
    assert (built_in["scope"], built_in["provider"], built_in["rate_value_usd"]) == ("platform", "internal", 0)


async def test_one_tenants_prices_are_no_other_ones(api: Api) -> None:
    one, other = await api.person(), await api.person()
    made = await add_price(one)
    assert await own(other) == []
    answer = await other.patch(f"{CATALOG}/{made['id']}", json={"active": False})
    assert error_of(answer) == ("NOT_FOUND", 404)
    await add_price(other, rate_value_usd=7)
    used = Metered(component="llm", provider="openai", output_tokens=2000)
    assert [line.usd for line in await lines_for(api, one, used)] == [0, 1]
    assert [line.usd for line in await lines_for(api, other, used)] == [0, 14]


@pytest.mark.parametrize("role", ["reader", "editor"])
async def test_admins_alone_see_and_set_prices(api: Api, role: str) -> None:
    admin = await api.person()
    person = await api.person(role, admin.tenant)
    assert error_of(await person.get(CATALOG)) == ("AUTH_FORBIDDEN", 403)
    assert error_of(await person.post(CATALOG, json=price())) == ("AUTH_FORBIDDEN", 403)
