"""What is measured of requests as callers meet them, how it is shown, and that writing it twice changes nothing."""

from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import pytest

from nexusrag.infra.database import Database
from nexusrag.kernel.errors import ErrorCode
from nexusrag.kernel.traffic import RouteClass
from nexusrag.operations.sla import repository
from nexusrag.operations.sla.keeper import Keeper
from nexusrag.operations.sla.measure import Measurer
from nexusrag.operations.sla.sketch import Sketch
from nexusrag.web.call import Outcome
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, rows


async def shown(admin: Person, **query: Any) -> list[Any]:
    answer = await admin.get("/v1/admin/sla/measurements", params=query)
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["data"]["items"]
    return items


async def numbers(admin: Person, route_class: str) -> tuple[int, int]:
    """Requests and failures of a class so far."""
    items = await shown(admin, route_class=route_class, window="5m")
    return sum(one["requests"] for one in items), sum(one["failures"] for one in items)


async def test_requests_are_counted_by_class_and_faults_of_callers_are_no_failures(api: Api) -> None:
    admin = await api.person()
    reader = await api.person("reader", admin.tenant)
    for _ in range(3):
        await reader.get("/v1/corpora")
    assert (await reader.get("/v1/corpora/none")).status_code == 404
    assert (await reader.post("/v1/corpora", json={"name": "x"})).status_code == 403
    assert await numbers(admin, "read") == (4, 0)
    assert await numbers(admin, "mutation") == (1, 0)


async def test_a_run_is_measured_to_its_end_and_to_its_first_event(api: Api) -> None:
    admin = await api.person()
    corpus = await admin.corpus()
    await admin.text(corpus, "The treasure is buried under the old oak.")
    await admin.run(corpus, "Where is the treasure?")
    (run,) = await shown(admin, route_class="run")
    assert (run["requests"], run["failures"]) == (1, 0)
    assert 0 < run["first_event_p95_ms"] <= run["p95_ms"] * 1.03
    (text,) = await shown(admin, route_class="documents_text")
    assert text["requests"] == 1


@pytest.mark.parametrize(
    ("status", "code", "requests", "failures"),
    [
        (200, None, 1, 0),
        (404, ErrorCode.NOT_FOUND, 1, 0),
        (429, ErrorCode.RATE_LIMITED, 1, 0),
        (500, ErrorCode.INTERNAL_ERROR, 1, 1),
        (503, ErrorCode.SERVICE_UNAVAILABLE, 1, 1),
        (503, ErrorCode.SERVICE_BUSY, 1, 1),
        (503, ErrorCode.SLA_SHED_LOAD, 0, 0),
        (503, ErrorCode.WRITE_FROZEN, 0, 0),
        (503, ErrorCode.FEATURE_TEMPORARILY_DISABLED, 0, 0),
        (499, None, 0, 0),
        (200, ErrorCode.INTEGRATION_UNAVAILABLE, 1, 1),  # told on a stream
        (200, ErrorCode.RUN_CANCELLED, 1, 0),
    ],
)
async def test_what_counts_is_what_callers_met(api: Api, status: int, code: ErrorCode | None, requests: int, failures: int) -> None:
    measurer, name = Measurer(api.resources.get(Database), 60), "t"
    measurer.note(name, ["run"], RouteClass.RUN, Outcome(status, code.value if code else None, False), perf_counter())
    cells = [cell for (tenant, _, _), cell in measurer._cells.items() if tenant == name]
    assert sum(cell.count for cell in cells) == requests
    assert sum(cell.failures for cell in cells) == failures
    assert sum(cell.sketch.count for cell in cells) == (1 if status == 200 and code is None else 0)  # how quick a refusal is says nothing


@pytest.mark.parametrize("outcome", [Outcome(200, None, True, 1.0), Outcome(200, None, False, 1.0, complete=False)])
def test_a_run_that_is_told_again_or_left_says_nothing_of_its_length(api: Api, outcome: Outcome) -> None:
    measurer = Measurer(api.resources.get(Database), 60)
    measurer.note("t", ["run"], RouteClass.RUN, outcome, 0.5)
    cells = [cell for (tenant, _, _), cell in measurer._cells.items() if tenant == "t"]
    assert [(cell.count, cell.sketch.count, cell.first_event.count) for cell in cells] == [(1, 0, 1)]


async def test_what_is_written_twice_counts_once_and_processes_are_added_up(api: Api) -> None:
    admin, now = await api.person(), datetime.now(UTC).replace(second=0, microsecond=0)
    sketch = Sketch()
    for ms in range(1, 101):
        sketch.add(float(ms))
    async with api.resources.get(Database).work(None) as work:
        for process in ("a", "a", "b"):
            await repository.record(work, f"{process}-{admin.tenant}", [(admin.tenant, "read", now, 110, 10, sketch.dump(), b"")])
    (one,) = [item for item in await shown(admin, route_class="read") if item["requests"] > 100]
    assert (one["requests"], one["failures"]) == (220, 20)
    assert (one["p50_ms"], one["p95_ms"], one["p99_ms"]) == (
        pytest.approx(50, rel=0.011),
        pytest.approx(95, rel=0.011),
        pytest.approx(99, rel=0.011),
    )
    assert one["availability_pct"] == pytest.approx(90.909, abs=0.001)


async def test_a_flush_is_one_row_for_each_class_and_window_and_forgets_nothing_on_failure(api: Api) -> None:
    admin = await api.person()
    for _ in range(3):
        await admin.get("/v1/corpora")
    keeper = api.resources.get(Keeper)
    await keeper.flush()
    await keeper.flush()
    written = await rows(
        api, "select sum(count)::int as n from sla_measurements where tenant_id = $1 and route_class = 'read'", admin.tenant
    )
    assert written[0]["n"] == 3
    assert (await numbers(admin, "read"))[0] >= 3


async def test_a_process_that_cannot_write_keeps_what_it_has(api: Api) -> None:
    measurer = Measurer(api.resources.get(Database), 60)
    measurer.add("t", "read", failed=False, whole_ms=5.0)

    class Away:
        def work(self, tenant: str | None) -> Any:
            raise OSError

    here, measurer._database = measurer._database, Away()  # type: ignore[assignment]
    with pytest.raises(OSError):
        await measurer.flush()
    measurer._database = here
    tenant = (await api.person()).tenant
    measurer.add(tenant, "read", failed=False, whole_ms=5.0)
    await measurer.flush()
    assert await count(api, "select count(*) from sla_measurements where process = $1", measurer.process) == 2


async def test_measurements_are_the_tenants_own_and_operators_name_another(api: Api) -> None:
    admin, stranger, operator = await api.person(), await api.person(), await api.operator()
    await admin.get("/v1/corpora")
    path = "/v1/admin/sla/measurements"
    assert error_of(await stranger.get(path, params={"tenant_id": admin.tenant})) == ("NOT_FOUND", 404)
    seen = await shown(operator, tenant_id=admin.tenant, route_class="read")
    assert {one["tenant_id"] for one in seen} == {admin.tenant}
    assert error_of(await admin.get(path, params={"window": "2m"})) == ("VALIDATION_ERROR", 422)
    assert error_of(await admin.get(path, params={"limit": 0})) == ("VALIDATION_ERROR", 422)


async def test_objectives_are_told_once_enough_was_measured(api: Api) -> None:
    admin = await api.person()
    answer = await admin.get("/v1/ops/slo")
    assert error_of(answer) == ("SLO_DATA_UNAVAILABLE", 503)
    assert answer.headers["Retry-After"] == "60"
    for _ in range(20):
        await admin.get("/v1/corpora")
    told = (await admin.get("/v1/ops/slo")).json()["data"]
    assert (told["window"], told["scope"], told["availability"]) == ("1h", "tenant", 100.0)
    assert told["p95"]["api"] == told["p95"]["read"] > 0
    assert told["error_budget"] == {"remaining_pct": 100.0, "burn_rate_5m": 0.0}
    assert told["status"] in ("healthy", "breached")  # by how busy this machine is
    assert len(await audited(api, admin.tenant, "ops.viewed")) == 1
    operator = await api.operator()
    assert (await operator.get("/v1/ops/slo")).json()["data"]["scope"] == "platform"


async def test_failures_spend_the_budget_of_the_objectives(api: Api) -> None:
    admin, now = await api.person(), datetime.now(UTC).replace(second=0, microsecond=0)
    sketch = Sketch()
    sketch.add(10.0)
    async with api.resources.get(Database).work(None) as work:
        await repository.record(work, f"p-{admin.tenant}", [(admin.tenant, "read", now, 10_000, 5, sketch.dump(), b"")])
    told = (await admin.get("/v1/ops/slo")).json()["data"]
    assert told["availability"] == 99.95
    assert told["error_budget"] == {"remaining_pct": 50.0, "burn_rate_5m": 0.5}
    assert error_of(await (await api.person("editor", admin.tenant)).get("/v1/ops/slo")) == ("AUTH_FORBIDDEN", 403)
