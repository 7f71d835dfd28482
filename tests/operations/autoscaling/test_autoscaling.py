"""Profiles, recommendations and carrying them out: never in a dry run, once per cooldown, and through Kubernetes as it answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.ids import new_id
from nexusrag.operations.autoscaling.executors import Kubernetes
from nexusrag.operations.autoscaling.service import in_background
from nexusrag.settings.autoscaling import AutoscalingSettings
from tests.operations.autoscaling.api_server import TOKEN, ApiServer, api_server
from tests.operations.sla.measured import after, under
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, rows
from tests.support.installation import Servers, serving
from tests.support.soon import soon

BASE = "/v1/admin/sla/autoscaling"
PROFILE: dict[str, Any] = {
    "name": "runs", "scope": "tenant", "min_replicas": 1, "max_replicas": 10, "target_p95_ms": 1000, "target_queue_depth": 10,
    "cooldown_seconds": 300, "step_up": 2, "step_down": 1, "enabled": False,
}  # fmt: skip


async def due_here(api: Api, profile_id: str, fields: str) -> None:
    """Before all others, for a process that evaluates every second; the worker behind the shared API does so every half minute."""
    await rows(api, "update autoscaling_profiles set evaluated_at = now() where id <> $1", profile_id)
    await rows(api, f"update autoscaling_profiles set evaluated_at = now() - interval '5 seconds', {fields} where id = $1", profile_id)


async def made(person: Person, **fields: Any) -> str:
    answer = await person.post(f"{BASE}/profiles", json={**PROFILE, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["id"])


def asked(profile_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "profile_id": profile_id, "route_class": "run", "current_replicas": 2, "p95_ms": 1650, "queue_depth": 24, "signal_quality": "ok",
        **fields,
    }  # fmt: skip


async def evaluated(person: Person, profile_id: str, **fields: Any) -> Any:
    answer = await person.post(f"{BASE}/evaluate", json=asked(profile_id, **fields))
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_a_profile_recommends_and_changes_nothing(api: Api) -> None:
    admin = await api.person()
    profile = await made(admin, enabled=True)
    told = await evaluated(admin, profile)
    assert (told["action"], told["recommended_replicas"], told["reason"]) == ("scale_up", 4, "p95_above_target")
    assert (told["dry_run"], told["executor"]) == (True, "noop")
    assert (await evaluated(admin, profile, signal_quality="degraded"))["reason"] == "signal_degraded"
    assert len(await audited(api, admin.tenant, "sla.autoscaling.profile.created")) == 1


async def test_signals_that_are_left_out_are_measured(api: Api) -> None:
    admin = await api.person()
    told = await evaluated(admin, await made(admin, enabled=True), p95_ms=None, queue_depth=None)
    assert told["signals"]["p95_ms"] is None  # nothing was measured
    assert told["signals"]["queue_depth"] >= 0


async def test_a_linked_policy_that_is_breached_asks_for_more(api: Api) -> None:
    admin = await under(api, trigger=1)
    profile = await made(admin, enabled=True)
    (policy,) = (await admin.get("/v1/admin/sla/policies", params={"include_global": False})).json()["data"]["items"]
    linked = {**policy["config_json"], "autoscaling_link": {"profile_id": profile}}
    await admin.patch(f"/v1/admin/sla/policies/{policy['id']}", json={"config_json": linked})
    await after(api, admin, 5000.0)
    assert (await evaluated(admin, profile, p95_ms=1, queue_depth=0))["reason"] == "sla_breached"


async def test_a_policy_of_the_platform_that_any_tenant_breaches_asks_its_profile_for_more(api: Api) -> None:
    operator, admin = await api.operator(), await under(api, trigger=1)
    profile = await made(operator, scope="global", enabled=False, name=new_id("p"))
    await operator.patch(f"{BASE}/profiles/{profile}", json={"enabled": True, "cooldown_seconds": 86_400})
    link = {"autoscaling_link": {"profile_id": profile}}
    config = {
        "objectives": {"p95_ms_max": {"run": 1000}}, "enforcement": {"breach_window_minutes": 1, "consecutive_windows_to_trigger": 1},
    }  # fmt: skip
    policies, assignment = "/v1/admin/sla/policies", f"/v1/admin/sla/assignments/{admin.tenant}"

    async def reason() -> Any:
        return (await evaluated(operator, profile, p95_ms=1000, queue_depth=10))["reason"]

    async def breach(policy: Any, **fields: Any) -> None:
        await admin.patch(assignment, json={"policy_id": policy["id"], **fields})
        await after(api, admin, 5000.0)

    try:
        body = {"name": "P", "tier": "pro", "config_json": {**config, **link}}
        await breach((await admin.post(policies, json=body)).json()["data"])
        assert await reason() == "within_hysteresis"  # a tenant's own policy asks the platform for nothing
        plain = (await operator.post(policies, json={**body, "config_json": config, "is_global": True})).json()["data"]
        await breach(plain, override_json=link)
        assert await reason() == "within_hysteresis"
        await breach((await operator.post(policies, json={**body, "is_global": True})).json()["data"])
        assert await reason() == "sla_breached"
        await rows(api, "update sla_assignments set effective_to = now() where tenant_id = $1", admin.tenant)
        assert await reason() == "within_hysteresis"  # what nobody judges any more asks for nothing
    finally:
        await operator.patch(f"{BASE}/profiles/{profile}", json={"enabled": False})


async def test_changes_of_a_profile_at_once_all_count(api: Api) -> None:
    admin = await api.person()
    path, changes = f"{BASE}/profiles/{await made(admin)}", {"name": "N", "max_replicas": 20, "step_up": 3, "step_down": 4, "enabled": True}
    await asyncio.gather(*(admin.patch(path, json={name: value}) for name, value in changes.items()))
    (now,) = (await admin.get(f"{BASE}/profiles")).json()["data"]["items"]
    assert {name: now[name] for name in changes} == changes


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"min_replicas": 5, "max_replicas": 4}, ("SLA_AUTOSCALING_PROFILE_INVALID", 422)),
        ({"scope": "route_class"}, ("SLA_AUTOSCALING_PROFILE_INVALID", 422)),
        ({"scope": "global"}, ("AUTH_FORBIDDEN", 403)),
        ({"scope": "planet"}, ("VALIDATION_ERROR", 422)),
        ({"min_replicas": 0}, ("VALIDATION_ERROR", 422)),
        ({"step_up": 0}, ("VALIDATION_ERROR", 422)),
        ({"cooldown_seconds": -1}, ("VALIDATION_ERROR", 422)),
        ({"tenant_id": "somebody-else"}, ("TENANT_ID_NOT_ALLOWED", 422)),
    ],
)
async def test_a_profile_that_makes_no_sense_is_refused(api: Api, fields: dict[str, Any], refused: tuple[str, int]) -> None:
    assert error_of(await (await api.person()).post(f"{BASE}/profiles", json={**PROFILE, **fields})) == refused


async def test_a_profile_is_changed_together_with_what_stays(api: Api) -> None:
    admin = await api.person()
    path = f"{BASE}/profiles/{await made(admin)}"
    assert (await admin.patch(path, json={"max_replicas": 3})).json()["data"]["max_replicas"] == 3
    assert error_of(await admin.patch(path, json={"min_replicas": 4})) == ("SLA_AUTOSCALING_PROFILE_INVALID", 422)
    assert error_of(await (await api.person()).patch(path, json={"name": "mine"})) == ("NOT_FOUND", 404)


async def test_null_leaves_everything_of_a_profile_as_it_is_but_its_class(api: Api) -> None:
    admin = await api.person()
    path = f"{BASE}/profiles/{await made(admin, route_class='read')}"
    before = (await admin.patch(path, json={})).json()["data"]
    answer = await admin.patch(path, json={name: None for name in (*PROFILE, "tenant_id") if name != "scope"})
    assert (answer.status_code, {**answer.json()["data"], "updated_at": None}) == (200, {**before, "updated_at": None})
    assert (await admin.patch(path, json={"route_class": None})).json()["data"]["route_class"] is None


async def test_a_profile_of_one_class_is_about_no_other(api: Api) -> None:
    operator = await api.operator()
    profile = await made(operator, scope="route_class", route_class="read", enabled=True, name=new_id("p"))
    answer = await operator.post(f"{BASE}/evaluate", json=asked(profile))
    assert error_of(answer) == ("SLA_AUTOSCALING_PROFILE_INVALID", 422)
    await operator.patch(f"{BASE}/profiles/{profile}", json={"enabled": False})


async def test_a_dry_run_is_put_on_record_and_rehearses_the_cooldown(api: Api) -> None:
    operator = await api.operator()
    profile = await made(operator, enabled=True, cooldown_seconds=3600)
    applied = await operator.post(f"{BASE}/apply", json=asked(profile))
    assert applied.status_code == 200, applied.text
    assert (applied.json()["data"]["status"], applied.json()["data"]["recommended_replicas"]) == ("dry_run", 4)
    again = await operator.post(f"{BASE}/apply", json=asked(profile))
    assert error_of(again) == ("SLA_AUTOSCALING_COOLDOWN_ACTIVE", 409)
    assert 3500 < int(again.headers["Retry-After"]) <= 3600
    assert (await evaluated(operator, profile))["reason"] == "cooldown_active"
    listed = (await operator.get(f"{BASE}/actions", params={"profile_id": profile})).json()["data"]["items"]
    assert [one["status"] for one in listed] == ["dry_run"]


async def test_only_operators_carry_out(api: Api) -> None:
    admin = await api.person()
    answer = await admin.post(f"{BASE}/apply", json=asked(await made(admin, enabled=True)))
    assert error_of(answer) == ("AUTH_FORBIDDEN", 403)


async def test_in_the_background_a_profile_is_evaluated_once_in_its_interval(api: Api) -> None:
    admin = await api.person()
    profile = await made(admin, min_replicas=3, enabled=True, target_queue_depth=10_000)
    await rows(api, "update autoscaling_profiles set replicas = 1, evaluated_at = null where id = $1", profile)
    await rows(api, "update autoscaling_profiles set cooldown_seconds = 0 where id = $1", profile)
    await asyncio.gather(*(in_background(api.resources) for _ in range(4)))
    listed: list[Any] = []
    async with asyncio.timeout(10):  # the worker behind the API may have been first
        while not listed:
            listed = (await admin.get(f"{BASE}/actions", params={"profile_id": profile})).json()["data"]["items"]
    assert [(one["action"], one["status"], one["created_by"]) for one in listed] == [("scale_up", "recommended", "system")]
    assert len(await audited(api, admin.tenant, "sla.autoscaling.recommended")) == 1


async def pending(api: Api, person: Person, profile: str, began: str) -> str:
    """As a process leaves it that dies while it carries an action out: on record, with its cooldown, since so long."""
    action = new_id("asa")
    await rows(
        api, "insert into autoscaling_actions (tenant_id, id, profile_id, route_class, action, reason, current_replicas, "
        "recommended_replicas, status, executor, signals, created_by, created_at) values ($1, $2, $3, 'run', 'scale_up', "
        f"'p95_above_target', 1, 3, 'pending', 'kubernetes', '{{}}', 'system', now() - interval '{began}')", person.tenant, action, profile,
    )  # fmt: skip
    await rows(
        api, "update autoscaling_profiles p set last_applied_at = a.created_at, replicas = 3 from autoscaling_actions a "
        "where a.id = $1 and p.id = a.profile_id", action,
    )  # fmt: skip
    return action


async def standing(api: Api, action: str) -> tuple[Any, ...]:
    """Status and reason of the action; whether its profile's cooldown has begun, and with how many replicas."""
    (row,) = await rows(
        api, "select a.status, a.reason, p.last_applied_at is not null as cooling, p.replicas from autoscaling_actions a "
        "join autoscaling_profiles p on p.id = a.profile_id where a.id = $1", action,
    )  # fmt: skip
    return tuple(row.values())


async def test_in_the_background_an_action_whose_process_died_is_ended_with_its_cooldown(api: Api) -> None:
    admin = await api.person()
    profiles = [await made(admin, cooldown_seconds=86_400, target_queue_depth=10_000) for _ in range(3)]
    dead, later, alive = [await pending(api, admin, profile, began) for profile, began in zip(profiles, ("1 h", "1 h", "5 s"), strict=True)]
    await rows(api, "update autoscaling_profiles set last_applied_at = now() where id = $1", profiles[1])  # since then somebody applied it
    await rows(api, "update autoscaling_profiles set enabled = true, evaluated_at = null where tenant_id = $1", admin.tenant)
    await in_background(api.resources)

    async def ended() -> Any:  # the worker behind the API may have been first
        return [await standing(api, action) for action in (dead, later, alive)]

    expected = [("failed", "interrupted", False, 1), ("failed", "interrupted", True, 3), ("pending", "p95_above_target", True, 3)]
    await soon(ended, expected, within_s=10)
    await rows(api, "update autoscaling_profiles set enabled = false where tenant_id = $1", admin.tenant)


async def test_whoever_applies_a_profile_is_not_held_up_by_an_action_whose_process_died(api: Api) -> None:
    operator = await api.operator()
    profile = await made(operator, enabled=True, cooldown_seconds=86_400)
    action = await pending(api, operator, profile, "1 h")
    assert (await operator.post(f"{BASE}/apply", json=asked(profile))).status_code == 200
    assert (await standing(api, action))[:2] == ("failed", "interrupted")
    await operator.patch(f"{BASE}/profiles/{profile}", json={"enabled": False})


@asynccontextmanager
async def scaling(servers: Servers, directory: Path, **env: str) -> AsyncIterator[tuple[Person, Api, ApiServer]]:
    """An operator at a process that scales through a Kubernetes API server."""
    async with api_server(directory) as kubernetes:
        changes = {
            "AUTOSCALING_DRY_RUN": "false", "AUTOSCALING_EXECUTOR": "kubernetes", "AUTOSCALING_KUBERNETES_NAMESPACE": "answers",
            "AUTOSCALING_KUBERNETES_KUBECONFIG": str(kubernetes.kubeconfig), "AUTOSCALING_KUBERNETES_TIMEOUT_S": "2",
            "AUTOSCALING_EVAL_INTERVAL_SECONDS": "1", **env,
        }  # fmt: skip
        settings = servers.with_env(**changes)
        async with serving(settings) as (app, url):
            api = Api(servers, app, url)
            yield await api.operator(), api, kubernetes
            await api.close()


@pytest.mark.slow
async def test_kubernetes_is_told_the_scale_and_nothing_else(servers: Servers, tmp_path: Path) -> None:
    async with scaling(servers, tmp_path) as (operator, api, kubernetes):
        profile = await made(operator, enabled=True)
        applied = (await operator.post(f"{BASE}/apply", json=asked(profile))).json()["data"]
        assert (applied["status"], applied["executor"], kubernetes.replicas) == ("applied", "kubernetes", 4)
        assert [method for method, _, _ in kubernetes.asked] == ["GET", "PATCH"]
        _, content_type, body = kubernetes.asked[1]
        assert body == {"spec": {"replicas": 4}}
        assert content_type in ("application/merge-patch+json", "application/strategic-merge-patch+json")
        (event,) = [one for one in await audited(api, operator.tenant, "sla.autoscaling.applied") if profile in str(one["resource_id"])]
        assert '"status": "applied"' in event["metadata"]


@pytest.mark.slow
async def test_a_refusal_of_kubernetes_is_told_and_leaves_no_cooldown(servers: Servers, tmp_path: Path) -> None:
    async with scaling(servers, tmp_path) as (operator, _, kubernetes):
        profile = await made(operator, enabled=True)
        troubles: list[dict[str, Any]] = [
            {"fails": 403}, {"fails": 500}, {"hangs": True}, {"cuts": True}, {"drips": True}, {"nonsense": "{}"}, {"nonsense": "<html>"},
        ]  # fmt: skip
        for trouble in troubles:
            for name in ("fails", "hangs", "cuts", "drips", "nonsense"):
                setattr(kubernetes, name, trouble.get(name))
            kubernetes.arrived = 0
            answer = await operator.post(f"{BASE}/apply", json=asked(profile))
            assert error_of(answer) == ("SLA_AUTOSCALING_EXECUTOR_UNAVAILABLE", 503)
            assert answer.json()["error"]["details"].get("status") == trouble.get("fails")
            assert kubernetes.arrived <= 1  # nothing is asked for twice
        kubernetes.nonsense = None
        assert kubernetes.replicas == 2
        assert (await operator.post(f"{BASE}/apply", json=asked(profile))).json()["data"]["status"] == "applied"
        listed = (await operator.get(f"{BASE}/actions", params={"profile_id": profile})).json()["data"]["items"]
        assert [one["status"] for one in listed] == ["applied", *["failed"] * len(troubles)]


async def test_a_pod_speaks_with_its_own_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = Kubernetes(AutoscalingSettings(autoscaling_kubernetes_namespace="answers", autoscaling_kubernetes_timeout_s=30))
    async with api_server(tmp_path) as kubernetes:
        (tmp_path / "token").write_text(TOKEN)
        monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
        monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(kubernetes.certificate))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(kubernetes.port))
        await executor.scale(5)
        assert (kubernetes.replicas, await executor.replicas()) == (5, 5)
        monkeypatch.delenv("KUBERNETES_SERVICE_PORT")
        with pytest.raises(ApiError) as outside:
            await executor.scale(6)
        assert (outside.value.details, kubernetes.replicas) == ({"executor": "kubernetes", "error": "ConfigException"}, 5)


@pytest.mark.slow
async def test_a_step_begins_where_things_are(servers: Servers, tmp_path: Path) -> None:
    async with scaling(servers, tmp_path) as (operator, _, kubernetes):
        profile, kubernetes.replicas = await made(operator, enabled=True), 8
        answer = await operator.post(f"{BASE}/apply", json=asked(profile, current_replicas=2))
        assert (error_of(answer), answer.json()["error"]["details"]) == (("CONFLICT", 409), {"replicas": 8})
        assert kubernetes.replicas == 8
        applied = await operator.post(f"{BASE}/apply", json=asked(profile, current_replicas=8))
        assert (applied.status_code, kubernetes.replicas) == (200, 10)


@pytest.mark.slow
async def test_what_was_scaled_to_nothing_stays_so(servers: Servers, tmp_path: Path) -> None:
    async with scaling(servers, tmp_path) as (operator, api, kubernetes):
        profile, kubernetes.replicas = await made(operator, scope="global", name=new_id("p")), 0
        await due_here(api, profile, "enabled = true, replicas = 5")
        await in_background(api.resources)
        await operator.patch(f"{BASE}/profiles/{profile}", json={"enabled": False})
        assert (kubernetes.replicas, [method for method, _, _ in kubernetes.asked]) == (0, ["GET"])


@pytest.mark.slow
async def test_a_dry_run_never_speaks_to_kubernetes(servers: Servers, tmp_path: Path) -> None:
    async with scaling(servers, tmp_path, AUTOSCALING_DRY_RUN="true") as (operator, api, kubernetes):
        profile = await made(operator, scope="global", enabled=True, min_replicas=3, name=new_id("p"))
        assert (await operator.post(f"{BASE}/apply", json=asked(profile))).json()["data"]["status"] == "dry_run"
        await due_here(api, profile, "cooldown_seconds = 0, replicas = 1")
        await in_background(api.resources)
        assert kubernetes.asked == []
        await operator.patch(f"{BASE}/profiles/{profile}", json={"enabled": False})


@pytest.mark.slow
async def test_in_the_background_a_profile_of_the_platform_is_carried_out(servers: Servers, tmp_path: Path) -> None:
    async with scaling(servers, tmp_path) as (operator, api, kubernetes):
        profile = await made(operator, scope="global", min_replicas=5, name=new_id("p"))
        await due_here(api, profile, "enabled = true")
        await in_background(api.resources)
        assert kubernetes.replicas == 5
        assert [body for method, _, body in kubernetes.asked if method == "PATCH"] == [{"spec": {"replicas": 5}}]
        await operator.patch(f"{BASE}/profiles/{profile}", json={"enabled": False})
