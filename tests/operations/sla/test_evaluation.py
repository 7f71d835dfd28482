"""Judging: what is written about a tenant, one incident however many judge, and nothing held against anybody without a signal."""

import asyncio

import pytest
from structlog.testing import capture_logs

from nexusrag.infra.database import Database
from nexusrag.operations.sla import repository
from nexusrag.operations.sla.evaluate import evaluate, evaluate_tenant, last_closed
from nexusrag.settings import Settings
from tests.operations.sla.measured import MINUTE, START, after, incidents, judge, measure, stands, under
from tests.support.api import Api, error_of
from tests.support.behind import audited, count, rows
from tests.support.processes import until

SLOW, FAST = 5000.0, 50.0


async def test_bad_windows_in_a_row_breach_and_open_an_incident(api: Api) -> None:
    admin = await under(api)
    await after(api, admin, SLOW)
    assert await stands(api, admin) == ("warning", "warn")
    assert await incidents(admin) == []
    await after(api, admin, SLOW, SLOW)
    assert await stands(api, admin) == ("breached", "degrade")
    (incident,) = await incidents(admin, "open")
    assert (incident["route_class"], incident["evidence"]["missed"]) == ("run", ["p95_ms_max"])
    assert len(await audited(api, admin.tenant, "sla.breach.detected")) == 1
    assert len(await audited(api, admin.tenant, "sla.incident.opened")) == 1


async def test_what_does_not_get_better_is_shed_and_what_does_is_resolved(api: Api) -> None:
    admin = await under(api)
    await after(api, admin, SLOW, SLOW, SLOW, SLOW)
    assert await stands(api, admin) == ("breached", "shed")
    for window in (4, 5):
        await measure(api, admin, window, FAST)
        await judge(api, admin, window)
    assert await stands(api, admin) == ("healthy", "allow")
    (incident,) = await incidents(admin)
    assert (incident["status"], incident["resolved_by"]) == ("resolved", "system")
    assert len(await audited(api, admin.tenant, "sla.incident.resolved")) == 1


async def test_an_interruption_of_measuring_breaches_nothing(api: Api) -> None:
    admin = await under(api)
    await after(api, admin, SLOW, FAST, None, SLOW, None, FAST, SLOW)
    assert (await stands(api, admin))[0] == "warning"
    assert await incidents(admin) == []


async def test_two_who_judge_at_once_open_one_incident_and_count_one_window(api: Api) -> None:
    admin = await under(api, trigger=1)
    await measure(api, admin, 0, SLOW)
    settings, database = api.resources.get(Settings).sla, api.resources.get(Database)

    async def one() -> None:
        async with database.work(admin.tenant) as work:
            await evaluate_tenant(work, START + MINUTE, settings, heard=True)

    await asyncio.gather(*(one() for _ in range(8)))
    (state,) = await rows(api, "select bad from sla_states where tenant_id = $1", admin.tenant)
    assert state["bad"] == 1
    assert len(await incidents(admin)) == 1
    assert len(await audited(api, admin.tenant, "sla.incident.opened")) == 1


async def test_an_open_incident_is_not_opened_again(api: Api) -> None:
    admin = await under(api, trigger=1)
    async with api.resources.get(Database).work(admin.tenant) as work:
        opened = [await repository.open_incident(work, f"inc_{n}_{admin.tenant}", "run", "p", 1, START, {}) for n in range(2)]
    assert opened == [True, False]


async def test_whoever_resolves_begins_anew(api: Api) -> None:
    admin = await under(api)
    await after(api, admin, SLOW, SLOW)
    (incident,) = await incidents(admin, "open")
    path = f"/v1/admin/sla/incidents/{incident['id']}/resolve"
    resolved = (await admin.post(path)).json()["data"]
    assert (resolved["status"], resolved["resolved_by"]) == ("resolved", admin.user_id)
    assert (await admin.post(path)).json()["data"]["resolved_at"] == resolved["resolved_at"]
    assert len(await audited(api, admin.tenant, "sla.incident.resolved")) == 1
    await measure(api, admin, 2, SLOW)
    await judge(api, admin, 2)
    assert await stands(api, admin) == ("warning", "warn")
    stranger = await api.person()
    assert error_of(await stranger.post(path)) == ("NOT_FOUND", 404)


async def test_without_a_signal_nobody_is_held_to_anything(api: Api) -> None:
    admin = await under(api)
    await after(api, admin, SLOW, SLOW)
    await judge(api, admin, 2, heard=False)
    assert await stands(api, admin) == ("healthy", "allow")
    await judge(api, admin, 3, heard=False)
    assert len(await audited(api, admin.tenant, "sla.signal.degraded")) == 1


async def test_a_changed_policy_is_a_new_beginning(api: Api) -> None:
    admin = await under(api)
    await after(api, admin, SLOW)
    (policy,) = (await admin.get("/v1/admin/sla/policies", params={"include_global": False})).json()["data"]["items"]
    await admin.patch(f"/v1/admin/sla/policies/{policy['id']}", json={"name": "Q"})
    await measure(api, admin, 1, SLOW)
    await judge(api, admin, 1)
    assert await stands(api, admin) == ("warning", "warn")


@pytest.mark.parametrize("begun_anew", ["policy", "signal"])
@pytest.mark.parametrize("then", [FAST, None])
async def test_an_incident_ends_when_things_are_good_though_judging_began_anew(api: Api, begun_anew: str, then: float | None) -> None:
    admin = await under(api)
    await after(api, admin, SLOW, SLOW)
    if begun_anew == "policy":
        (policy,) = (await admin.get("/v1/admin/sla/policies", params={"include_global": False})).json()["data"]["items"]
        await admin.patch(f"/v1/admin/sla/policies/{policy['id']}", json={"name": "Q"})
    else:
        await judge(api, admin, 2, heard=False)
    assert len(await incidents(admin, "open")) == 1
    for window in (3, 4):
        if then is not None:
            await measure(api, admin, window, then)
        await judge(api, admin, window)
    assert await incidents(admin, "open") == []
    assert len(await audited(api, admin.tenant, "sla.incident.resolved")) == 1


async def test_an_incident_about_what_the_policy_no_longer_asks_is_over(api: Api) -> None:
    admin = await under(api, trigger=1)
    await after(api, admin, SLOW)
    (policy,) = (await admin.get("/v1/admin/sla/policies", params={"include_global": False})).json()["data"]["items"]
    await admin.patch(f"/v1/admin/sla/policies/{policy['id']}", json={"config_json": {"objectives": {"p95_ms_max": {"read": 100}}}})
    await judge(api, admin, 1)
    assert await incidents(admin, "open") == []


@pytest.mark.parametrize("ended", ["policy", "assignment"])
async def test_an_incident_ends_with_what_it_was_about(api: Api, ended: str) -> None:
    admin = await under(api, trigger=1)
    await after(api, admin, SLOW)
    (incident,) = await incidents(admin, "open")
    if ended == "policy":
        await admin.post(f"/v1/admin/sla/policies/{incident['policy_id']}/disable")
    else:
        await rows(api, "update sla_assignments set effective_to = now() where tenant_id = $1", admin.tenant)
    await evaluate(api.resources)
    (incident,) = await incidents(admin)
    assert (incident["status"], incident["resolved_by"]) == ("resolved", "system")
    assert len(await audited(api, admin.tenant, "sla.incident.resolved")) == 1


@pytest.mark.parametrize("change", ["assign", "resolve"])
async def test_who_judges_and_who_begins_anew_do_not_wait_for_each_other(api: Api, change: str) -> None:
    admin = await under(api)
    await after(api, admin, SLOW, SLOW)
    (incident,) = await incidents(admin, "open")
    await rows(api, "update sla_assignments set evaluated_to = $2 where tenant_id = $1", admin.tenant, START)

    async def begin_anew() -> int:
        if change == "assign":
            body = {"policy_id": incident["policy_id"]}
            return (await admin.patch(f"/v1/admin/sla/assignments/{admin.tenant}", json=body)).status_code
        return (await admin.post(f"/v1/admin/sla/incidents/{incident['id']}/resolve")).status_code

    async with api.resources.get(Database).work(admin.tenant) as work:
        assert await repository.take(work, START + MINUTE) is not None
        beginning = asyncio.create_task(begin_anew())
        await until(lambda: waits_for_a_lock(api, "sla_"))
        (state,) = await repository.states(work)
        await repository.put_state(work, "run", dict(state))
        await repository.resolve_incidents(work, "run", "system")
    assert await beginning == 200


async def waits_for_a_lock(api: Api, about: str) -> bool:
    found = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and strpos(query, $1) > 0"
    return await count(api, found, about) > 0


async def test_a_policy_that_cannot_be_read_is_told_of_once(api: Api) -> None:
    admin = await under(api)
    await rows(api, "update sla_policies set config = '{}' where tenant_id = $1", admin.tenant)
    with capture_logs() as told:
        await after(api, admin, SLOW, SLOW)
    assert [one["event"] for one in told if one.get("tenant", admin.tenant) == admin.tenant].count("sla.policy_unreadable") == 1


async def test_what_several_processes_measured_is_judged_together(api: Api) -> None:
    admin = await under(api, trigger=1)
    for _ in range(4):  # too few in each to tell
        await measure(api, admin, 0, SLOW, requests=6)
    await judge(api, admin, 0)
    assert await stands(api, admin) == ("breached", "degrade")
    (state,) = await rows(api, "select evidence from sla_states where tenant_id = $1", admin.tenant)
    assert '"requests": 24' in state["evidence"]


async def test_failures_spend_the_budget(api: Api) -> None:
    admin = await under(api, trigger=1, objectives={"availability_min_pct": 99.0, "max_error_budget_burn_5m": 2.0})
    await measure(api, admin, 0, FAST, requests=100, failures=10)
    await judge(api, admin, 0)
    (incident,) = await incidents(admin)
    assert incident["evidence"]["missed"] == ["availability_min_pct", "max_error_budget_burn_5m"]
    assert (incident["evidence"]["availability_pct"], incident["evidence"]["burn_rate_5m"]) == (90.0, 10.0)


async def test_a_worker_judges_what_is_due(api: Api) -> None:
    """The cron, against the clock of the database: the last window that every process has had time to write."""
    admin = await under(api, trigger=1)
    settings, database = api.resources.get(Settings).sla, api.resources.get(Database)
    async with database.work(None) as work:
        end = last_closed(await repository.now(work), settings)
    await measure(api, admin, round((end - MINUTE - START) / MINUTE), SLOW)
    await rows(api, "update sla_assignments set evaluated_to = $2 where tenant_id = $1", admin.tenant, end - MINUTE)
    async with asyncio.timeout(20):
        while not await incidents(admin):
            await asyncio.sleep(0.1)
    assert len(await audited(api, admin.tenant, "sla.breach.detected")) == 1  # the state may be of the next window already
