"""Operators' actions: what each forces, for whom, how it ends, and what is demanded of whoever takes it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nexusrag.flags.switches.facade import forced as forced_value
from nexusrag.infra.integrations import Integrations
from nexusrag.infra.retries import Verdict
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, rows
from tests.support.installation import Servers, serving
from tests.support.soon import soon

ACTIONS = "/v1/admin/ops/actions"
FLAGS = {"disable-tts": "kill.tts", "enable-shed": "shed.run", "freeze-writes": "write.freeze"}


async def act(operator: Person, action: str, key: str | None = None, **options: Any) -> Any:
    return await operator.post(f"{ACTIONS}/{action}", headers={"Idempotency-Key": key or new_id("k")}, **options)


async def lift(operator: Person, action: str, **params: str) -> Any:
    if action == "freeze-writes":
        return await act(operator, action, json={"freeze": False})
    return await act(operator, action, params={"lift": "true", **params})


async def forces(api: Api, value: bool | None, key: str, tenant: str | None = None) -> None:
    """The process knows of this soon: the database may be slow to tell it."""
    await soon(lambda: forced_value(api.resources, key, tenant), value)


@pytest.mark.parametrize("action", FLAGS)
async def test_an_action_forces_its_flag_for_a_while_and_can_be_taken_back(api: Api, action: str) -> None:
    operator = await api.operator()
    before = datetime.now(UTC)
    answer = await act(operator, action)
    try:
        data = answer.json()["data"]
        assert (answer.status_code, data["action"], data["flag"], data["tenant_id"]) == (200, action, FLAGS[action], None)
        assert abs(datetime.fromisoformat(data["expires_at"]) - before - timedelta(seconds=900)) < timedelta(seconds=5)
        await forces(api, True, FLAGS[action])
        shown = (await operator.get("/v1/admin/rollouts/killswitches")).json()["data"]["forced"]
        assert [(one["key"], one["tenant_id"], one["value"]) for one in shown] == [(FLAGS[action], None, True)]
    finally:
        lifted = await lift(operator, action)
    assert (lifted.json()["data"]["status"], lifted.json()["data"]["expires_at"]) == ("lifted", None)
    await forces(api, None, FLAGS[action])
    assert (await lift(operator, action)).json()["data"]["status"] == "unchanged"
    event = "failover.write_freeze.toggled" if action == "freeze-writes" else "ops.action.taken"
    assert [f'"status": "{status}"' in one["metadata"] for status, one in zip(
        ("forced", "lifted", "unchanged"), (await audited(api, operator.tenant, event))[-3:], strict=True
    )] == [True] * 3  # fmt: skip


async def test_an_action_for_one_tenant_leaves_the_others_alone(api: Api) -> None:
    operator, person, other = await api.operator(), await api.person(), await api.person()
    answer = await act(operator, "enable-shed", params={"tenant_id": person.tenant, "route_class": "read"})
    try:
        assert answer.json()["data"]["tenant_id"] == person.tenant
        await forces(api, True, "shed.read", person.tenant)
        for key, tenant in (("shed.read", other.tenant), ("shed.read", None), ("shed.run", person.tenant)):
            await forces(api, None, key, tenant)
    finally:
        await lift(operator, "enable-shed", tenant_id=person.tenant, route_class="read")
    await forces(api, None, "shed.read", person.tenant)


async def test_a_forced_flag_stands_above_what_is_stored(api: Api) -> None:
    operator, path = await api.operator(), "/v1/admin/rollouts/killswitches"
    await operator.patch(path, json={"kill_switches": {"kill.tts": False}})
    await act(operator, "disable-tts")
    try:
        data = (await operator.patch(path, json={"kill_switches": {"kill.tts": False}})).json()["data"]
        assert (data["kill_switches"]["kill.tts"], data["sources"]["kill.tts"]) == (True, "forced")
    finally:
        await lift(operator, "disable-tts")
    data = (await operator.get(path)).json()["data"]
    assert (data["kill_switches"]["kill.tts"], data["sources"]["kill.tts"]) == (False, "stored")
    await rows(api, "delete from flags where key = 'kill.tts'")
    await rows(api, "select pg_notify('nexusrag_changes', 'flags *')")


@pytest.mark.slow
async def test_a_forced_flag_ends_by_itself(servers: Servers) -> None:
    async with serving(servers.with_env(OPS_FORCED_FLAG_TTL_S="3")) as (app, url):
        api = Api(servers, app, url)
        operator, person = await api.operator(), await api.person()
        await act(operator, "freeze-writes", json={"reason": "moving house"})

        async def met() -> tuple[str, int]:
            answer = await person.post("/v1/corpora", json={"name": "C"})
            return ("", answer.status_code) if answer.status_code < 400 else error_of(answer)

        async def told() -> int:
            return len((await operator.get("/v1/admin/rollouts/killswitches")).json()["data"]["forced"])

        await soon(met, ("WRITE_FROZEN", 503))
        await soon(met, ("", 201))
        await soon(told, 0)  # by the database's clock, which may see the end a moment later
        await api.close()


@pytest.mark.parametrize("action", [*FLAGS, "reset-breaker"])
async def test_every_action_needs_an_operator_and_an_idempotency_key(api: Api, action: str) -> None:
    operator, person = await api.operator(), await api.person()
    params = {"integration": "llm.openai"} if action == "reset-breaker" else {}
    assert error_of(await operator.post(f"{ACTIONS}/{action}", params=params)) == ("IDEMPOTENCY_KEY_REQUIRED", 400)
    assert error_of(await act(operator, action, key="k" * 129, params=params)) == ("IDEMPOTENCY_KEY_INVALID", 400)
    assert error_of(await act(person, action, params=params)) == ("AUTH_FORBIDDEN", 403)
    foreign = await act(person, action, params={**params, "tenant_id": operator.tenant})
    assert error_of(foreign) == ("NOT_FOUND", 404)
    assert error_of(await act(operator, action, params={**params, "tenant_id": "nobodys"})) == ("NOT_FOUND", 404)


async def test_an_action_that_is_sent_again_is_taken_once(api: Api) -> None:
    operator, key = await api.operator(), new_id("k")
    first = await act(operator, "disable-tts", key)
    try:
        again = await act(operator, "disable-tts", key)
        assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    finally:
        await lift(operator, "disable-tts")


@pytest.mark.parametrize("params", [{"route_class": "ops"}, {"route_class": "x"}, {"lift": "perhaps"}])
async def test_what_cannot_be_shed_is_refused(api: Api, params: dict[str, str]) -> None:
    assert error_of(await act(await api.operator(), "enable-shed", params=params)) == ("VALIDATION_ERROR", 422)


@pytest.mark.parametrize("body", [{"freeze": "yes"}, {"freeze": 0}, {"freeze": None}, {"frozen": True}, {"reason": "x" * 501}])
async def test_a_freeze_is_asked_for_in_exactly_one_way(api: Api, body: dict[str, object]) -> None:
    assert error_of(await act(await api.operator(), "freeze-writes", json=body)) == ("VALIDATION_ERROR", 422)
    await forces(api, None, "write.freeze")


async def _fail(integrations: Integrations, integration: str, tenant: str) -> None:
    async with integrations.calling(integration, tenant, 1, attempts=1).attempt() as attempt:
        attempt.failed(Verdict(theirs=True, again=False))


async def test_an_open_breaker_is_closed(api: Api) -> None:
    operator, integrations = await api.operator(), api.resources.get(Integrations)
    name, tenants = f"test.{new_id('x')}".replace("_", "-"), ["t-one", "t-two"]
    for tenant in tenants:
        for _ in range(5):
            await _fail(integrations, name, tenant)
        with pytest.raises(ApiError, match="failed several times"):
            await _fail(integrations, name, tenant)
    answer = await act(operator, "reset-breaker", params={"integration": name})
    assert (answer.status_code, answer.json()["data"]["status"], answer.json()["data"]["closed"]) == (200, "reset", 2)
    await asyncio.gather(*(_fail(integrations, name, tenant) for tenant in tenants))
    unknown = await act(operator, "reset-breaker", params={"integration": "nothing.here"})
    assert (unknown.json()["data"]["status"], unknown.json()["data"]["closed"]) == ("unchanged", 0)
    bad = await act(operator, "reset-breaker", params={"integration": "Nothing here"})
    assert error_of(bad) == ("VALIDATION_ERROR", 422)
