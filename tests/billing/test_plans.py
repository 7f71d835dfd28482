"""Plans over HTTP: who reads and who assigns them, what a tenant then has, and what is on record."""

import json
from datetime import timedelta
from typing import Any

import pytest

from nexusrag.kernel import clock
from nexusrag.kernel.features import FEATURES_OF, Feature, PlanId
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, rows
from tests.support.processes import until

F, P, E = PlanId.FREE, PlanId.PRO, PlanId.ENTERPRISE
# The matrix as customers are told it.
MATRIX = {
    "feature.retrieval.local_pgvector": {F, P, E},
    "feature.retrieval.aws_bedrock": {E},
    "feature.retrieval.gcp_vertex": {P, E},
    "feature.tts": {P, E},
    "feature.ops_admin_access": {P, E},
    "feature.audit_access": {P, E},
    "feature.corpora_patch_provider_config": {P, E},
    "feature.billing_webhook_test": {P, E},
    "feature.high_quota_tier": {E},
    "feature.identity.sso": {P, E},
    "feature.identity.scim": {E},
    "feature.identity.jit": {E},
    "feature.cost_visibility": {P, E},
    "feature.cost_controls": {P, E},
    "feature.chargeback_reports": {E},
}
INVALID = ("VALIDATION_ERROR", 422)
MISSING = ("NOT_FOUND", 404)
FORBIDDEN = ("AUTH_FORBIDDEN", 403)


def path(person: Person, tail: str = "") -> str:
    return f"/v1/admin/plans/{person.tenant}{tail}"


def enabled(plan: Any) -> set[str]:
    """Keys of the features that are on."""
    return {one["feature_key"] for one in plan["entitlements"] if one["enabled"]}


def entitlement(plan: Any, key: str) -> Any:
    (found,) = [one for one in plan["entitlements"] if one["feature_key"] == key]
    return found


async def recorded(api: Api, person: Person, event: str) -> list[tuple[Any, Any]]:
    """Events of one type of somebody's tenant: the row, and what was noted."""
    return [(row, json.loads(row["metadata"])) for row in await audited(api, person.tenant, event)]


async def of(person: Person) -> Any:
    """The plan of somebody's tenant, as they see it."""
    answer = await person.get(path(person))
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_each_plan_has_what_the_matrix_says() -> None:
    assert {feature.value for feature in Feature} == MATRIX.keys()
    assert {key: {plan for plan in PlanId if Feature(key) in FEATURES_OF[plan]} for key in MATRIX} == MATRIX


async def test_the_plans_are_listed_for_every_admin(free: Api) -> None:
    admin = await free.person()
    plans = (await admin.get("/v1/admin/plans")).json()["data"]
    assert [(plan["id"], plan["name"], plan["is_active"]) for plan in plans] == [
        ("free", "Free", True), ("pro", "Pro", True), ("enterprise", "Enterprise", True),
    ]  # fmt: skip
    for plan in plans:
        assert {one["feature_key"]: one["enabled"] for one in plan["features"]} == {key: plan["id"] in MATRIX[key] for key in MATRIX}


async def test_without_an_assignment_the_home_tenant_has_enterprise_and_others_the_default(free: Api, api: Api) -> None:
    home, other = await free.operator(), await free.person()
    await rows(free, "delete from tenant_plans where tenant_id = $1", home.tenant)  # another test may have assigned it one
    for person, plan in ((home, "enterprise"), (other, "free")):
        held = await of(person)
        assert (held["tenant_id"], held["plan_id"], held["plan_name"]) == (person.tenant, plan, plan.capitalize())
        assert (held["effective_from"], held["effective_to"], held["is_active"]) == (None, None, True)
        assert enabled(held) == {feature.value for feature in FEATURES_OF[PlanId(plan)]}
    assert (await of(await api.person()))["plan_id"] == "enterprise", "DEFAULT_PLAN of that installation"


async def test_an_operator_assigns_a_plan_to_any_tenant_and_the_tenant_sees_who(free: Api) -> None:
    operator, customer = await free.operator(), await free.person()
    assert error_of(await customer.get("/v1/ops/metrics")) == ("FEATURE_NOT_ENABLED", 403)
    answer = await operator.patch(path(customer), json={"plan_id": "pro"})
    assert (answer.status_code, answer.json()["data"]) == (200, await of(customer))
    held = answer.json()["data"]
    assert (held["plan_id"], held["effective_to"], enabled(held)) == ("pro", None, {key for key in MATRIX if P in MATRIX[key]})
    assert held["effective_from"].endswith("Z")
    assert (await operator.get(path(customer))).json()["data"] == held

    async def has_it() -> bool:
        return (await customer.get("/v1/ops/metrics")).status_code == 200

    await until(has_it, 5)
    ((event, noted),) = await recorded(free, customer, "plan.assigned")
    assert (event["actor_id"], event["resource_type"], event["resource_id"]) == (operator.key_id, "plan", customer.tenant)
    assert (noted["plan_id"], noted["previous_plan_id"], noted["by_tenant"]) == ("pro", "free", operator.tenant)
    assert await rows(free, "select 1 from audit_events where resource_id = $1 and tenant_id = $2", customer.tenant, operator.tenant) == []


async def test_a_tenants_admin_reads_its_plan_and_changes_nothing(free: Api) -> None:
    admin, other = await free.person(), await free.person()
    changes = ((path(admin), {"plan_id": "enterprise"}), (path(admin, "/overrides"), {"feature_key": "feature.tts", "enabled": True}))
    before = await of(admin)
    for where, body in changes:
        assert error_of(await admin.patch(where, json=body)) == FORBIDDEN
        assert error_of(await other.patch(where, json=body)) == MISSING
    assert error_of(await other.get(path(admin))) == MISSING
    assert await of(admin) == before
    for role in ("editor", "reader"):
        person = await free.person(role, admin.tenant)
        for where in ("/v1/admin/plans", path(admin), "/v1/self-serve/plan"):
            assert error_of(await person.get(where)) == FORBIDDEN


async def test_only_admins_of_the_home_tenant_operate_the_platform(free: Api) -> None:
    operator, customer = await free.operator(), await free.person()
    editor = await free.person("editor", operator.tenant)
    assert error_of(await editor.patch(path(customer), json={"plan_id": "pro"})) == MISSING
    for unknown in ("nobody", "Not-A-Tenant", "%2e%2e", "a" * 64):
        assert error_of(await operator.patch(f"/v1/admin/plans/{unknown}", json={"plan_id": "pro"})) == MISSING
    assert (await operator.get("/v1/admin/plans", params={"tenant_id": operator.tenant})).status_code == 200
    for own, other in ((operator, customer), (customer, operator)):  # which of two is meant, nobody guesses
        assert error_of(await operator.patch(path(own), params={"tenant_id": other.tenant}, json={"plan_id": "pro"})) == MISSING
    # Where a route reaches no further than the own tenant, operators do not either.
    assert error_of(await operator.get("/v1/self-serve/plan", params={"tenant_id": customer.tenant})) == MISSING


@pytest.mark.parametrize(
    "body",
    [{}, {"plan_id": "platinum"}, {"plan_id": None}, {"plan_id": "pro", "price": 0},
     {"plan_id": "pro", "effective_to": "2020-01-01T00:00:00Z"},
     {"plan_id": "pro", "effective_to": "2030-01-01T00:00:00"}, {"plan_id": "pro", "effective_to": "9999-12-31T23:59:59-12:00"}],
)  # fmt: skip
async def test_a_faulty_assignment_changes_nothing(free: Api, body: dict[str, Any]) -> None:
    operator, customer = await free.operator(), await free.person()
    assert error_of(await operator.patch(path(customer), json=body)) == INVALID
    assert (await of(customer))["plan_id"] == "free"


async def test_a_body_cannot_name_yet_another_tenant(free: Api) -> None:
    operator, customer = await free.operator(), await free.person()
    body = {"plan_id": "pro", "tenant_id": operator.tenant}
    assert error_of(await operator.patch(path(customer), json=body)) == ("TENANT_ID_NOT_ALLOWED", 422)


async def test_a_plan_ends_when_it_was_said_to(free: Api) -> None:
    operator, customer = await free.operator(), await free.person()
    ends = (clock.now() + timedelta(days=30)).replace(microsecond=0)
    held = (await operator.patch(path(customer), json={"plan_id": "enterprise", "effective_to": clock.iso(ends)})).json()["data"]
    assert (held["plan_id"], held["effective_to"]) == ("enterprise", clock.iso(ends))
    await rows(free, "update tenant_plans set effective_to = now() where tenant_id = $1", customer.tenant)
    newcomer = await free.person(tenant=customer.tenant)  # nothing is known of their key yet
    assert (await of(newcomer))["plan_id"] == "free"
    assert error_of(await newcomer.get("/v1/ops/metrics")) == ("FEATURE_NOT_ENABLED", 403)
    assert (await operator.patch(path(customer), json={"plan_id": "pro"})).json()["data"]["effective_to"] is None


async def test_an_override_switches_one_feature_for_one_tenant(free: Api) -> None:
    operator, customer, other = await free.operator(), await free.person(), await free.person()
    where, key = path(customer, "/overrides"), "feature.ops_admin_access"
    await operator.patch(path(customer), json={"plan_id": "pro"})
    for body, on, overridden in (
        ({"enabled": False}, False, True),
        ({"enabled": True}, True, True),
        ({"enabled": None}, True, False),
    ):
        held = (await operator.patch(where, json={"feature_key": key, **body})).json()["data"]
        assert entitlement(held, key) == {"feature_key": key, "enabled": on, "config_json": None, "overridden": overridden}
        assert enabled(held) ^ {one.value for one in FEATURES_OF[P]} == (set() if on else {key})

        async def acts(on: bool = on) -> bool:
            return ((await customer.get("/v1/ops/metrics")).status_code == 200) is on

        await until(acts, 5)
    assert not any(one["overridden"] for one in (await of(other))["entitlements"])
    events = await recorded(free, customer, "plan.feature.overridden")
    assert [(noted["feature_key"], noted["enabled"]) for _, noted in events] == [(key, False), (key, True), (key, None)]


async def test_the_configuration_of_a_feature_is_kept_until_it_is_removed(free: Api) -> None:
    operator, customer = await free.operator(), await free.person()
    key, voices = "feature.tts", {"voices": ["nova"], "größe": 1.5, "deep": {"er": [None, True]}}

    async def override(**body: Any) -> tuple[bool, Any]:
        answer = await operator.patch(path(customer, "/overrides"), json={"feature_key": key, **body})
        assert answer.status_code == 200, answer.text
        held = entitlement(answer.json()["data"], key)
        assert entitlement(await of(customer), key) == held
        return held["enabled"], held["config_json"]

    assert await override(config_json=voices) == (False, voices), "configured, and left to the plan"
    assert await override(enabled=True) == (True, voices)
    assert await override(config_json=None) == (True, None)
    assert await override(enabled=False, config_json={}) == (False, {})
    assert await override(enabled=None, config_json=voices) == (False, voices)
    assert await override(enabled=None) == (False, None), "an override that is removed is gone"
    assert await rows(free, "select * from feature_overrides where tenant_id = $1", customer.tenant) == []


@pytest.mark.parametrize(
    "body",
    [{}, {"feature_key": "feature.tts"}, {"feature_key": "feature.teleport", "enabled": True}, {"enabled": True},
     {"feature_key": "feature.tts", "enabled": "yes"}, {"feature_key": "feature.tts", "enabled": 1},
     {"feature_key": "feature.tts", "config_json": []}, {"feature_key": "feature.tts", "config_json": {"x": "y" * 17_000}},
     {"feature_key": "feature.tts", "enabled": True, "until": "tomorrow"}],
)  # fmt: skip
async def test_a_faulty_override_changes_nothing(free: Api, body: dict[str, Any]) -> None:
    operator, customer = await free.operator(), await free.person()
    assert error_of(await operator.patch(path(customer, "/overrides"), json=body)) == INVALID
    assert enabled(await of(customer)) == {"feature.retrieval.local_pgvector"}


async def test_a_feature_of_a_later_release_is_none_here(free: Api) -> None:
    customer = await free.person()
    await rows(
        free, "insert into feature_overrides (tenant_id, feature_key, enabled) values ($1, 'feature.of_tomorrow', true)", customer.tenant
    )
    assert enabled(await of(customer)) == {"feature.retrieval.local_pgvector"}


async def test_an_admin_sees_the_own_plan_and_that_is_on_record(free: Api) -> None:
    admin = await free.person()
    own = (await admin.get("/v1/self-serve/plan")).json()["data"]
    held = await of(admin)
    assert own == {
        **{name: held[name] for name in ("tenant_id", "plan_id", "plan_name", "entitlements")},
        "quota": {
            "day": {"limit": 1000, "used": 0, "remaining": 1000},
            "month": {"limit": 10_000, "used": 0, "remaining": 10_000},
            "soft_cap_reached": False,
            "hard_cap_mode": "enforce",
        },
    }
    assert len(await audited(free, admin.tenant, "selfserve.plan.viewed")) == 1


async def test_an_upgrade_is_asked_for_once_and_settled_by_an_assignment(free: Api) -> None:
    operator, admin = await free.operator(), await free.person()

    async def ask(**body: Any) -> tuple[int, str]:
        answer = await admin.post("/v1/self-serve/plan/upgrade-request", json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()["data"]["request_id"], answer.json()["data"]["status"]

    async def waiting() -> list[tuple[int, str, str | None]]:
        requests = (await operator.get(path(admin))).json()["data"]["upgrade_requests"]
        return [(one["request_id"], one["target_plan"], one["reason"]) for one in requests]

    first = await ask(target_plan="pro", reason="Spoken answers")
    assert first[1] == "open"
    assert await ask(target_plan="pro") == first
    larger = await ask(target_plan="enterprise")
    assert await waiting() == [(first[0], "pro", "Spoken answers"), (larger[0], "enterprise", None)]
    events = await recorded(free, admin, "plan.upgrade_requested")
    assert [(noted["target_plan"], noted["request_id"]) for _, noted in events] == [
        ("pro", first[0]), ("pro", first[0]), ("enterprise", larger[0]),
    ]  # fmt: skip
    billed = await recorded(free, admin, "billing.upgrade_requested")
    assert [noted["target_plan"] for _, noted in billed] == ["pro", "enterprise"]
    await operator.patch(path(admin), json={"plan_id": "pro"})
    assert await waiting() == [(larger[0], "enterprise", None)]
    await operator.patch(path(admin), json={"plan_id": "enterprise"})
    assert await waiting() == []
    assert (await ask(target_plan="enterprise"))[0] > larger[0]


@pytest.mark.parametrize(
    "body",
    [{}, {"target_plan": "free"}, {"target_plan": "platinum"}, {"target_plan": "pro", "reason": "r" * 1025}, {"target_plan": ["pro"]}],
)
async def test_a_faulty_request_for_an_upgrade_is_refused(free: Api, body: dict[str, Any]) -> None:
    assert error_of(await (await free.person()).post("/v1/self-serve/plan/upgrade-request", json=body)) == INVALID
