"""Measurements as processes would have written them, and tenants under a policy."""

from datetime import UTC, datetime, timedelta
from typing import Any

from nexusrag.infra.database import Database
from nexusrag.kernel.ids import new_id
from nexusrag.operations.sla import repository
from nexusrag.operations.sla.evaluate import evaluate_tenant
from nexusrag.operations.sla.sketch import Sketch
from nexusrag.settings import Settings
from tests.support.api import Api, Person
from tests.support.behind import rows

MINUTE = timedelta(minutes=1)
# Windows to come, which no worker judges: the test alone does, as if they had closed.
START = datetime.now(UTC).replace(second=0, microsecond=0) + 1000 * MINUTE


async def under(
    api: Api, *, trigger: int = 2, mode: str = "enforce", objectives: dict[str, Any] | None = None, **mitigation: Any
) -> Person:
    """An admin whose tenant is under a policy."""
    admin = await api.person()
    config = {
        "objectives": objectives or {"p95_ms_max": {"run": 1000}},
        "enforcement": {"mode": mode, "breach_window_minutes": 1, "consecutive_windows_to_trigger": trigger},
        "mitigation": {"provider_fallback_order": ["local_pgvector"], **mitigation},
    }
    policy = (await admin.post("/v1/admin/sla/policies", json={"name": "P", "tier": "pro", "config_json": config})).json()["data"]
    answer = await admin.patch(f"/v1/admin/sla/assignments/{admin.tenant}", json={"policy_id": policy["id"]})
    assert answer.status_code == 200, answer.text
    await rows(api, "update sla_assignments set evaluated_to = $2 where tenant_id = $1", admin.tenant, START)
    return admin


async def measure(
    api: Api, person: Person, window: int, ms: float, *, requests: int = 50, failures: int = 0, route_class: str = "run"
) -> None:
    """So many requests in the window of this number, all of them this slow."""
    sketch = Sketch()
    for _ in range(requests - failures):
        sketch.add(ms)
    row = (person.tenant, route_class, START + window * MINUTE, requests, failures, sketch.dump(), b"")
    async with api.resources.get(Database).work(None) as work:
        await repository.record(work, new_id("process"), [row])


async def judge(api: Api, person: Person, window: int, *, heard: bool = True) -> None:
    """Judge the window of this number, as a worker would have."""
    end = START + (window + 1) * MINUTE
    async with api.resources.get(Database).work(person.tenant) as work:
        await evaluate_tenant(work, end, api.resources.get(Settings).sla, heard=heard)


async def after(api: Api, person: Person, *ms: float | None) -> None:
    """Windows of these latencies, the first being number 0; None is one in which nothing happens."""
    for window, value in enumerate(ms):
        if value is not None:
            await measure(api, person, window, value)
        await judge(api, person, window)


async def stands(api: Api, person: Person) -> tuple[str, str]:
    """Status and decision of runs."""
    (state,) = await rows(api, "select status, decision from sla_states where tenant_id = $1 and route_class = 'run'", person.tenant)
    return state["status"], state["decision"]


async def incidents(person: Person, status: str | None = None) -> list[Any]:
    answer = await person.get("/v1/admin/sla/incidents", params={"status": status} if status else {})
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["data"]["items"]
    return found
