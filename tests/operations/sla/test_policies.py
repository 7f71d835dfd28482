"""Policies and assignments: who writes them, what is refused, and that a change counts."""

import asyncio
from typing import Any

import pytest

from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited

POLICIES = "/v1/admin/sla/policies"
CONFIG: dict[str, Any] = {
    "objectives": {
        "availability_min_pct": 99.9, "p95_ms_max": {"run": 1200}, "p99_ms_max": {"run": 2000}, "max_error_budget_burn_5m": 2.0,
    },
    "enforcement": {"mode": "enforce", "breach_window_minutes": 5, "consecutive_windows_to_trigger": 3},
    "mitigation": {
        "allow_degrade": True, "disable_tts_first": True, "reduce_top_k_floor": 3, "cap_output_tokens": 512,
        "provider_fallback_order": ["local_pgvector"],
    },
    "autoscaling_link": {"profile_id": None},
}  # fmt: skip


async def made(person: Person, **fields: Any) -> Any:
    body = {"name": "enterprise-run-sla", "tier": "enterprise", "enabled": True, "version": 1, "config_json": CONFIG, **fields}
    answer = await person.post(POLICIES, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


async def test_a_policy_is_made_changed_and_switched_and_its_version_rises(api: Api) -> None:
    admin = await api.person()
    policy = await made(admin)
    assert (policy["tenant_id"], policy["version"], policy["config_json"]) == (admin.tenant, 1, CONFIG)
    path = f"{POLICIES}/{policy['id']}"
    changed = (await admin.patch(path, json={"name": "other", "tier": "custom"})).json()["data"]
    assert (changed["name"], changed["tier"], changed["version"], changed["config_json"]) == ("other", "custom", 2, CONFIG)
    assert (await admin.post(f"{path}/disable")).json()["data"]["enabled"] is False
    assert (await admin.post(f"{path}/disable")).json()["data"]["version"] == 3
    assert (await admin.post(f"{path}/enable")).json()["data"]["enabled"] is True
    for event, number in (("created", 1), ("updated", 1), ("disabled", 1), ("enabled", 1)):
        assert len(await audited(api, admin.tenant, f"sla.policy.{event}")) == number, event
    listed = (await admin.get(POLICIES)).json()["data"]["items"]
    assert policy["id"] in {one["id"] for one in listed}


async def test_a_change_that_names_nothing_changes_nothing(api: Api) -> None:
    admin = await api.person()
    policy = await made(admin)
    path = f"{POLICIES}/{policy['id']}"
    for nothing in ({}, {"name": None, "tier": None, "enabled": None, "config_json": None}):
        answer = await admin.patch(path, json=nothing)
        assert (answer.status_code, answer.json()["data"]) == (200, policy)
    assert await audited(api, admin.tenant, "sla.policy.updated") == []
    changed = (await admin.patch(path, json={"name": None, "tier": "custom", "config_json": None})).json()["data"]
    assert {**changed, "updated_at": None} == {**policy, "tier": "custom", "version": 2, "updated_at": None}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("objectives", {}),
        ("objectives", {"availability_min_pct": 100.0}),
        ("objectives", {"availability_min_pct": -1}),
        ("objectives", {"availability_min_pct": "99.9"}),
        ("objectives", {"availability_min_pct": True}),
        ("objectives", {"p95_ms_max": {"run": 0}}),
        ("objectives", {"p95_ms_max": {"walk": 5}}),
        ("objectives", {"p95_ms_max": 1200}),
        ("objectives", {"p95_ms_maximum": {"run": 5}}),
        ("objectives", {"availability_min_pct": 99.0, "max_error_budget_burn_5m": 1e308}),
        ("enforcement", {"mode": "destroy"}),
        ("enforcement", {"breach_window_minutes": 0}),
        ("enforcement", {"consecutive_windows_to_trigger": 2.5}),
        ("mitigation", {"reduce_top_k_floor": 0}),
        ("mitigation", {"provider_fallback_order": ["the_moon"]}),
        ("autoscaling_link", {"profile": "x"}),
        ("surprise", {}),
    ],
)
async def test_what_means_nothing_is_refused_by_its_name(api: Api, place: str, value: Any) -> None:
    admin = await api.person()
    answer = await admin.post(POLICIES, json={"name": "P", "tier": "pro", "config_json": {**CONFIG, place: value}})
    assert error_of(answer) == ("SLA_POLICY_INVALID", 422)
    assert answer.json()["error"]["details"]["errors"][0]["field"].startswith(f"config_json.{place}")
    policy = await made(admin)
    patched = await admin.patch(f"{POLICIES}/{policy['id']}", json={"config_json": {**CONFIG, place: value}})
    assert error_of(patched) == ("SLA_POLICY_INVALID", 422)


@pytest.mark.parametrize("body", [{"tier": "gold"}, {"name": ""}, {"version": 0}, {"config_json": None}, {"config_json": []}])
async def test_a_body_that_is_none_is_refused(api: Api, body: dict[str, Any]) -> None:
    whole = {"name": "P", "tier": "pro", "config_json": CONFIG, **body}
    assert error_of(await (await api.person()).post(POLICIES, json=whole)) == ("VALIDATION_ERROR", 422)


async def test_a_policy_of_the_platform_is_written_by_operators_and_seen_by_all(api: Api) -> None:
    operator, admin = await api.operator(), await api.person()
    policy = await made(operator, is_global=True, name=new_id("global"))
    assert policy["tenant_id"] is None
    seen = (await admin.get(POLICIES)).json()["data"]["items"]
    assert policy["id"] in {one["id"] for one in seen}
    own = (await admin.get(POLICIES, params={"include_global": False})).json()["data"]["items"]
    assert policy["id"] not in {one["id"] for one in own}
    path = f"{POLICIES}/{policy['id']}"
    for body in ({"name": "mine"}, {}):
        assert error_of(await admin.patch(path, json=body)) == ("AUTH_FORBIDDEN", 403)
    assert error_of(await admin.post(f"{path}/disable")) == ("AUTH_FORBIDDEN", 403)
    whole = {"name": "P", "tier": "pro", "config_json": CONFIG, "is_global": True}
    assert error_of(await admin.post(POLICIES, json=whole)) == ("AUTH_FORBIDDEN", 403)
    assert (await operator.post(f"{path}/disable")).json()["data"]["version"] == 2


async def test_a_tenant_is_assigned_to_a_policy_with_what_differs_for_it(api: Api) -> None:
    admin = await api.person()
    path = f"/v1/admin/sla/assignments/{admin.tenant}"
    assert error_of(await admin.get(path)) == ("SLA_ASSIGNMENT_NOT_FOUND", 404)
    policy = await made(admin)
    answer = await admin.patch(path, json={"policy_id": policy["id"], "override_json": {"objectives": {"p95_ms_max": {"run": 900}}}})
    assert answer.status_code == 200, answer.text
    told = (await admin.get(path)).json()["data"]
    assert (told["policy_id"], told["active"], told["override_json"]) == (
        policy["id"], True, {"objectives": {"p95_ms_max": {"run": 900}}},
    )  # fmt: skip
    assert len(await audited(api, admin.tenant, "sla.assignment.updated")) == 1
    await admin.post(f"{POLICIES}/{policy['id']}/disable")
    assert (await admin.get(path)).json()["data"]["active"] is False
    later = {"policy_id": policy["id"], "effective_from": "2999-01-01T00:00:00Z"}
    await admin.post(f"{POLICIES}/{policy['id']}/enable")
    assert (await admin.patch(path, json=later)).json()["data"]["active"] is False


async def test_an_assignment_that_makes_no_sense_is_refused(api: Api) -> None:
    admin, stranger = await api.person(), await api.person()
    policy, theirs = await made(admin), await made(stranger)
    path = f"/v1/admin/sla/assignments/{admin.tenant}"
    assert error_of(await admin.patch(path, json={"policy_id": theirs["id"]})) == ("NOT_FOUND", 404)
    over = {"policy_id": policy["id"], "effective_from": "2027-01-01T00:00:00Z", "effective_to": "2026-12-31T00:00:00Z"}
    assert error_of(await admin.patch(path, json=over)) == ("VALIDATION_ERROR", 422)
    wrong = {"policy_id": policy["id"], "override_json": {"objectives": {"p95_ms_max": {"run": -1}}}}
    assert error_of(await admin.patch(path, json=wrong)) == ("SLA_POLICY_INVALID", 422)
    elsewhere = f"/v1/admin/sla/assignments/{stranger.tenant}"
    assert error_of(await admin.patch(elsewhere, json={"policy_id": policy["id"]})) == ("NOT_FOUND", 404)


@pytest.mark.parametrize("is_global", [False, True])
async def test_a_change_that_those_under_the_policy_could_not_read_is_refused(api: Api, is_global: bool) -> None:
    admin = await api.person()
    writer = await api.operator() if is_global else admin
    policy = await made(writer, is_global=is_global)
    none = {"objectives": {"availability_min_pct": None, "max_error_budget_burn_5m": None}}
    assigned = await admin.patch(f"/v1/admin/sla/assignments/{admin.tenant}", json={"policy_id": policy["id"], "override_json": none})
    assert assigned.status_code == 200, assigned.text
    alone = {"config_json": {"objectives": {"availability_min_pct": 99.0}}}  # of which nothing would be left for the tenant
    refused = await writer.patch(f"{POLICIES}/{policy['id']}", json=alone)
    assert error_of(refused) == ("SLA_POLICY_INVALID", 422)
    assert admin.tenant in refused.json()["error"]["message"]


async def test_changes_at_once_all_count(api: Api) -> None:
    admin = await api.person()
    policy = await made(admin)
    path = f"{POLICIES}/{policy['id']}"
    changes = [{"name": "N"}, {"tier": "custom"}, {"enabled": False}, {"config_json": {"objectives": {"availability_min_pct": 99.0}}}]
    assert {one.status_code for one in await asyncio.gather(*(admin.patch(path, json=change) for change in changes * 2))} == {200}
    (now,) = (await admin.get(POLICIES, params={"include_global": False})).json()["data"]["items"]
    assert now["version"] == 9
    assert {name: now[name] for change in changes for name in change} == {name: value for one in changes for name, value in one.items()}


async def test_operators_assign_any_tenant(api: Api) -> None:
    operator, admin = await api.operator(), await api.person()
    policy = await made(operator, is_global=True)
    path = f"/v1/admin/sla/assignments/{admin.tenant}"
    assert (await operator.patch(path, json={"policy_id": policy["id"]})).json()["data"]["tenant_id"] == admin.tenant
    assert (await admin.get(path)).json()["data"]["policy_id"] == policy["id"]
