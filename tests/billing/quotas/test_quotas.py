"""Quotas over HTTP: whose limits are in force, who changes them, what happens at a cap, and what is told of it once."""

import asyncio
import json
from typing import Any

import pytest

from nexusrag.billing.quotas.limits import Override, Quota, resolve
from nexusrag.kernel.features import FEATURES_OF, Feature, PlanId
from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person, error_of, parse_events
from tests.support.behind import audited, rows
from tests.support.installation import Servers, serving
from tests.support.processes import until

INVALID = ("VALIDATION_ERROR", 422)


def path(person: Person) -> str:
    return f"/v1/admin/quotas/{person.tenant}"


async def limits(api: Api, person: Person, **fields: Any) -> dict[str, Any]:
    """Set by an operator."""
    answer = await (await api.operator()).patch(path(person), json=fields)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def used(person: Person) -> Any:
    return (await person.get("/v1/self-serve/plan")).json()["data"]["quota"]


def test_limits_are_the_plans_unless_operators_set_others() -> None:
    free, pro, enterprise = (resolve(plan, FEATURES_OF[plan], Override()) for plan in PlanId)
    assert (free.day_units, free.month_units, free.day_tokens, free.month_tokens) == (1000, 10_000, None, 1_000_000)
    assert (pro.day_units, pro.month_units, pro.month_tokens) == (20_000, 400_000, 50_000_000)
    assert enterprise == Quota()
    assert resolve(PlanId.FREE, {Feature.HIGH_QUOTA_TIER}, Override()) == Quota()
    assert resolve(PlanId.FREE, {Feature.HIGH_QUOTA_TIER}, Override(daily_requests_limit=0)).day_units == 0
    assert resolve(PlanId.ENTERPRISE, FEATURES_OF[PlanId.ENTERPRISE], Override(hard_cap_enabled=False)) == Quota(hard=False)


@pytest.mark.parametrize(("limit", "ratio", "cap"), [(10, 0.8, 8), (1000, 0.8, 800), (3, 0.5, 2), (10, 0.0, 1), (0, 0.8, 1), (10, 1.0, 10)])
def test_the_soft_cap_is_reached_at_its_share_of_the_limit(limit: int, ratio: float, cap: int) -> None:
    assert Quota(day_units=limit, soft_cap_ratio=ratio).soft_cap(limit) == cap


async def test_an_operator_sets_limits_for_any_tenant_and_null_leaves_them_to_the_plan(free: Api) -> None:
    customer = await free.person()
    held = (await customer.get(path(customer))).json()["data"]
    assert held == {
        "tenant_id": customer.tenant, "daily_requests_limit": 1000, "monthly_requests_limit": 10_000, "daily_tokens_limit": None,
        "monthly_tokens_limit": 1_000_000, "soft_cap_ratio": 0.8, "hard_cap_enabled": True,
    }  # fmt: skip
    changed = await limits(free, customer, daily_requests_limit=5, soft_cap_ratio=0.5, hard_cap_enabled=False, daily_tokens_limit=70)
    assert changed == {
        **held, "daily_requests_limit": 5, "soft_cap_ratio": 0.5, "hard_cap_enabled": False, "daily_tokens_limit": 70,
    }  # fmt: skip
    assert await limits(free, customer, daily_requests_limit=None) == {**changed, "daily_requests_limit": 1000}
    assert (await customer.get(path(customer))).json()["data"] == {**changed, "daily_requests_limit": 1000}
    assert len(await audited(free, customer.tenant, "quota.updated")) == 2


async def test_nobody_else_changes_limits(free: Api) -> None:
    customer, other = await free.person(), await free.person()
    assert error_of(await customer.patch(path(customer), json={"daily_requests_limit": 5}))[1] == 403
    assert error_of(await customer.get(path(other))) == ("NOT_FOUND", 404)
    reader = await free.person("reader", tenant=customer.tenant)
    assert error_of(await reader.get(path(customer))) == ("AUTH_FORBIDDEN", 403)


@pytest.mark.parametrize(
    "body",
    [
        {"daily_requests_limit": -1}, {"daily_requests_limit": 1.5}, {"daily_requests_limit": "5"}, {"daily_requests_limit": True},
        {"monthly_requests_limit": 1e308}, {"monthly_tokens_limit": 10**30}, {"soft_cap_ratio": 1.5}, {"soft_cap_ratio": -0.1},
        {"hard_cap_enabled": "yes"}, {"monthly_usd": 5},
    ],
)  # fmt: skip
async def test_senseless_limits_are_refused(free: Api, body: dict[str, Any]) -> None:
    customer = await free.person()
    assert error_of(await (await free.operator()).patch(path(customer), json=body)) == INVALID
    assert await rows(free, "select * from quota_limits where tenant_id = $1", customer.tenant) == []


async def test_what_is_no_number_is_refused(free: Api) -> None:
    customer = await free.person()
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        answer = await (await free.operator()).patch(
            path(customer), content=f'{{"soft_cap_ratio": {word}}}', headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (400, 422), word


async def test_a_tenant_at_its_cap_is_refused_can_look_and_can_be_raised(free: Api) -> None:
    customer = await free.person()
    await limits(free, customer, daily_requests_limit=4)
    answers = [await customer.get("/v1/corpora") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [402] * 2
    error = answers[-1].json()["error"]
    assert (error["code"], error["message"]) == ("QUOTA_EXCEEDED", "Daily request quota exceeded")
    assert error["details"] == {"period": "day", "limit": 4, "used": 4, "remaining": 0}
    for free_of_charge in (path(customer), "/v1/self-serve/plan", "/v1/self-serve/usage/summary", "/v1/ui/bootstrap"):
        assert (await customer.get(free_of_charge)).status_code == 200, free_of_charge
    await limits(free, customer, daily_requests_limit=5)
    await customer.soon("/v1/corpora", 200)
    assert (await customer.get("/v1/corpora")).status_code == 402
    (blocked,) = await audited(free, customer.tenant, "quota.hard_cap_blocked")
    assert json.loads(blocked["metadata"])["limit"] == 4, "one a minute, however many are refused"


async def test_a_tenant_at_its_cap_can_take_access_away(free: Api) -> None:
    admin = await free.person()
    leaking, leaver = await free.person(tenant=admin.tenant), await free.person("reader", tenant=admin.tenant)
    await limits(free, admin, daily_requests_limit=0)
    assert (await admin.get("/v1/corpora")).status_code == 402
    (found,) = [key for key in (await admin.get("/v1/admin/api-keys")).json()["data"]["items"] if key["key_id"] == leaking.key_id]
    assert (await admin.post(f"/v1/self-serve/api-keys/{found['key_id']}/revoke")).status_code == 200
    assert (await admin.patch(f"/v1/admin/api-keys/{leaver.key_id}", json={"active": False})).status_code == 200
    assert leaver.user_id in [user["id"] for user in (await admin.get("/v1/admin/identity/users")).json()["data"]["items"]]
    assert (await admin.post(f"/v1/admin/identity/users/{leaver.user_id}/disable")).status_code == 200
    await leaking.soon("/v1/admin/plans", 401)
    assert (await admin.post("/v1/self-serve/api-keys", json={"role": "reader"})).status_code == 402


async def test_a_tenant_at_its_cap_still_has_the_runs_that_it_paid_for(free: Api) -> None:
    person = await free.person()
    events = await person.run(await person.corpus(), "What?")
    run = str(events[0].id).rpartition(".")[0]
    await limits(free, person, daily_requests_limit=0)
    assert (await person.get("/v1/corpora")).status_code == 402
    again = await person.get(f"/v1/runs/{run}/events")
    assert (again.status_code, parse_events(again.text)) == (200, events)
    assert (await person.get(f"/v1/runs/{run}")).status_code == 200
    cancelled = await person.post(f"/v1/runs/{run}/cancel")
    assert (cancelled.status_code, cancelled.headers["X-Quota-Day-Used"]) == (200, "4"), "a corpus and a run"


async def test_a_limit_below_what_was_used_leaves_nothing_and_never_less(free: Api) -> None:
    customer = await free.person()
    for _ in range(5):
        assert (await customer.get("/v1/corpora")).status_code == 200
    await limits(free, customer, daily_requests_limit=2)
    await customer.soon("/v1/corpora", 402)
    error = (await customer.get("/v1/corpora")).json()["error"]
    assert (error["details"]["used"], error["details"]["remaining"]) == (5, 0)


async def test_a_cap_that_observes_lets_through_and_tells_once_in_each_period(free: Api) -> None:
    customer = await free.person()
    await limits(free, customer, daily_requests_limit=5, monthly_requests_limit=100, hard_cap_enabled=False)
    answers = [await customer.get("/v1/corpora") for _ in range(12)]
    assert {answer.status_code for answer in answers} == {200}
    assert answers[-1].headers["X-Quota-HardCap-Mode"] == "observe"
    (soft,) = await audited(free, customer.tenant, "quota.soft_cap_reached")
    (over,) = await audited(free, customer.tenant, "quota.overage_observed")
    assert ('"day"' in str(soft["metadata"]), '"day"' in str(over["metadata"])) == (True, True)


async def test_many_at_once_reach_the_soft_cap_once(free: Api) -> None:
    customer = await free.person()
    await limits(free, customer, daily_requests_limit=40, soft_cap_ratio=0.25)
    answers = await asyncio.gather(*(customer.get("/v1/corpora") for _ in range(30)))
    assert {answer.status_code for answer in answers} == {200}

    async def told() -> list[Any]:
        return await audited(free, customer.tenant, "quota.soft_cap_reached")

    assert len(await until(told)) == 1
    last = await customer.get("/v1/corpora")
    assert last.headers["X-Quota-SoftCap-Reached"] == "true"
    assert len(await told()) == 1


async def test_the_billing_webhook_hears_of_a_soft_cap(servers: Servers) -> None:
    env = {
        "BILLING_WEBHOOK_ENABLED": "true", "BILLING_WEBHOOK_URL": "http://127.0.0.1:9/hook", "BILLING_WEBHOOK_SECRET": "x" * 32,
        "INGEST_QUEUE_NAME": new_id("queue"),
    }  # fmt: skip
    async with serving(servers.with_env(**env)) as (app, url):
        api = Api(servers, app, url)
        customer = await api.person()
        await limits(api, customer, monthly_requests_limit=3, soft_cap_ratio=0.5)
        for _ in range(3):
            assert (await customer.get("/v1/corpora")).status_code == 200
        (job,) = await rows(api, "select args from jobs where tenant_id = $1 and kind like '%webhook%'", customer.tenant)
        told = json.loads(job["args"])
        assert told["event"] == "quota.soft_cap_reached"
        assert told["data"] == {"tenant_id": customer.tenant, "period": "month", "counted": "units", "limit": 3, "used": 2}
        await api.close()


async def test_the_shown_figures_follow_what_was_used(free: Api) -> None:
    customer = await free.person()
    for _ in range(3):
        await customer.get("/v1/corpora")

    async def counted() -> bool:  # Redis's counts reach PostgreSQL within a second
        return bool((await used(customer))["day"] == {"limit": 1000, "used": 3, "remaining": 997})

    await until(counted)
    shown = await used(customer)
    assert shown["month"] == {"limit": 10_000, "used": 3, "remaining": 9997}
    assert (shown["soft_cap_reached"], shown["hard_cap_mode"]) == (False, "enforce")
    assert (await customer.get("/v1/ui/bootstrap")).json()["data"]["quota_snapshot"] == shown
