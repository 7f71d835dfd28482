"""Budgets over HTTP: who sets them, what is refused, and that they act everywhere at once."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from nexusrag.billing.costs.facade import budget_of
from nexusrag.infra.database import Database
from nexusrag.kernel import clock
from tests.billing.costs.support import BUDGET, line, set_budget, spend
from tests.support.api import Api, error_of
from tests.support.behind import audited, rows
from tests.support.installation import Servers, serving
from tests.support.processes import until

INVALID = ("COST_INVALID_BUDGET_CONFIG", 422)
OWN = "/v1/self-serve/costs/budget"


async def test_without_a_budget_there_are_the_installations_defaults(api: Api) -> None:
    admin = await api.person()
    held = (await admin.get(BUDGET)).json()["data"]
    assert held == {
        "tenant_id": admin.tenant, "monthly_budget_usd": None, "warn_ratio": 0.8, "enforce_hard_cap": False, "hard_cap_mode": "block",
        "current_month_override_usd": None, "created_at": None, "updated_at": None, "month": f"{clock.now():%Y-%m}",
        "month_budget_usd": None, "month_spend_usd": 0, "month_remaining_usd": None, "status": "ok",
    }  # fmt: skip
    assert (await admin.get(OWN)).json()["data"] == held


async def test_what_is_left_out_stays_and_null_is_the_default(api: Api) -> None:
    admin = await api.person()
    await spend(api, admin, line("3"))
    held = await set_budget(admin, monthly_budget_usd=500, warn_ratio=0.5, enforce_hard_cap=True, hard_cap_mode="degrade")
    assert (held["month_budget_usd"], held["month_spend_usd"], held["month_remaining_usd"]) == (500, 3, 497)
    held = await set_budget(admin, current_month_override_usd=2)
    assert [held[name] for name in ("monthly_budget_usd", "warn_ratio", "enforce_hard_cap", "hard_cap_mode")] == [500, 0.5, True, "degrade"]
    assert (held["month_budget_usd"], held["month_remaining_usd"], held["status"]) == (2, 0, "degraded")
    await set_budget(admin, current_month_override_usd=None, warn_ratio=None, hard_cap_mode=None, enforce_hard_cap=None)
    held = await set_budget(admin, monthly_budget_usd=0.000001)
    assert [held[name] for name in ("month_budget_usd", "warn_ratio", "enforce_hard_cap", "hard_cap_mode")] == [1e-6, 0.8, False, "block"]
    assert (await set_budget(admin, monthly_budget_usd=None))["month_budget_usd"] is None
    assert (await admin.get(OWN)).json()["data"]["status"] == "ok"
    events = await audited(api, admin.tenant, "cost.budget.updated")
    assert len(events) == 5
    assert '"monthly_budget_usd": "500"' in events[0]["metadata"]


async def test_an_override_of_another_month_is_over(api: Api) -> None:
    admin = await api.person()
    await set_budget(admin, monthly_budget_usd=10, current_month_override_usd=20)
    await rows(api, "update budgets set override_month = override_month - interval '1 month' where tenant_id = $1", admin.tenant)
    held = (await admin.get(BUDGET)).json()["data"]
    assert (held["current_month_override_usd"], held["month_budget_usd"]) == (None, 10)


@pytest.mark.parametrize(
    "fields",
    [
        {"monthly_budget_usd": -1}, {"monthly_budget_usd": 1e10}, {"monthly_budget_usd": 1e-13}, {"monthly_budget_usd": "plenty"},
        {"current_month_override_usd": -0.01}, {"warn_ratio": 0}, {"warn_ratio": 1.01}, {"warn_ratio": -0.5}, {"warn_ratio": 1e-9},
        {"hard_cap_mode": "explode"}, {"hard_cap_mode": ""}, {"monthly_budget_usd": "Infinity"}, {"monthly_budget_usd": "1e1000000"}, {},
    ],
)  # fmt: skip
async def test_a_budget_that_cannot_be_is_refused(api: Api, fields: Any) -> None:
    admin = await api.person()
    assert error_of(await admin.patch(BUDGET, json=fields)) == INVALID
    assert (await admin.get(BUDGET)).json()["data"]["created_at"] is None


@pytest.mark.parametrize("fields", [{"enforce_hard_cap": "yes"}, {"budget": 1}, {"warn_ratio": True}, {"monthly_budget_usd": [1]}])
async def test_a_malformed_budget_is_refused(api: Api, fields: Any) -> None:
    assert (await (await api.person()).patch(BUDGET, json=fields)).status_code == 422


async def test_admins_alone_see_and_set_the_budget_of_their_own_tenant(api: Api) -> None:
    admin, other = await api.person(), await api.person()
    await set_budget(admin, monthly_budget_usd=1)
    assert (await other.get(BUDGET)).json()["data"]["monthly_budget_usd"] is None
    for role in ("reader", "editor"):
        person = await api.person(role, admin.tenant)
        for path in (BUDGET, OWN):
            assert error_of(await person.get(path)) == ("AUTH_FORBIDDEN", 403)
        assert error_of(await person.patch(BUDGET, json={"monthly_budget_usd": 2})) == ("AUTH_FORBIDDEN", 403)


@pytest.mark.parametrize(
    ("plan", "seen", "set_", "charged"), [("free", 403, 403, 403), ("pro", 200, 200, 403), ("enterprise", 200, 200, 200)]
)
async def test_the_plan_decides_what_of_costs_a_tenant_has(api: Api, plan: str, seen: int, set_: int, charged: int) -> None:
    admin, operator = await api.person(), await api.operator()
    assert (await operator.patch(f"/v1/admin/plans/{admin.tenant}", json={"plan_id": plan})).status_code == 200
    for answer, status in (
        (await admin.get(BUDGET), seen),
        (await admin.get("/v1/self-serve/costs/spend/summary"), seen),
        (await admin.patch(BUDGET, json={"monthly_budget_usd": 1}), set_),
        (await admin.get("/v1/admin/costs/chargeback/reports"), charged),
    ):
        assert answer.status_code == status, answer.text
        if status == 403:
            assert error_of(answer) == ("COST_FEATURE_NOT_ENABLED", 403)
            assert "feature_key" in answer.json()["error"]["details"]
    assert ("X-Cost-Status" in (await admin.get("/v1/corpora")).headers) is (seen == 200)


@pytest.fixture
async def elsewhere(servers: Servers) -> AsyncIterator[Api]:
    """Another process, which would keep what it knows for minutes."""
    async with serving(servers.with_env(AUTH_CACHE_TTL_S="300")) as (app, url):
        other = Api(servers, app, url)
        yield other
        await other.close()


async def test_a_budget_and_a_price_act_in_every_process_within_a_second(api: Api, elsewhere: Api) -> None:
    admin = await api.person()

    async def limit(of: Api) -> Decimal | None:
        async with of.resources.get(Database).work(admin.tenant) as work:
            return (await budget_of(of.resources, work)).limit

    assert [await limit(one) for one in (api, elsewhere)] == [None, None]
    for amount in (5, 7, None):
        await set_budget(admin, monthly_budget_usd=amount)
        assert await limit(api) == amount

        async def known(expected: Any = amount) -> bool:
            return bool(await limit(elsewhere) == expected)

        await until(known, within_s=5)
