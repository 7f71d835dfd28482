"""The dashboard shows what happened: its figures are those of the tenant's own rows, and its alerts what needs attention."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nexusrag.kernel.ids import new_id
from nexusrag.kernel.switches import WRITE_FREEZE, Switch
from tests.support.api import Api, Person, error_of
from tests.support.behind import rows
from tests.support.installation import Servers
from tests.support.switched import forced
from tests.support.walls import walled

PATH = "/v1/ui/dashboard/summary"


async def summary(person: Person, **params: Any) -> dict[str, Any]:
    answer = await person.get(PATH, params=params)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def cards(data: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {card["id"]: (card["value"], card["subtitle"]) for card in data["cards"]}


async def run_row(api: Api, person: Person, state: str, days_ago: int, took_s: float = 1, code: str | None = None) -> None:
    began = datetime.now(UTC) - timedelta(days=days_ago)
    await rows(
        api, "insert into runs (id, tenant_id, session_id, corpus_id, user_id, request_id, state, question, error_code, day, leased_until, "
        "process, started_at, finished_at) values ($1, $2, 's', 'c', $3, 'r', $4, 'q', $5, $6, now(), 'p', $7, $8)", new_id("run"),
        person.tenant, person.user_id, state, code, began.date(), began, began + timedelta(seconds=took_s),
    )  # fmt: skip


async def test_an_empty_tenant_has_figures_of_nothing_and_no_alerts(api: Api) -> None:
    data = await summary(await api.person(), window_days=3)
    assert cards(data)["runs"] == ("0", "in 3 days")
    assert (cards(data)["run_success"][0], cards(data)["run_p95"][0], cards(data)["documents"]) == ("–", "–", ("0", "0 waiting, 0 failed"))
    assert [point["value"] for point in data["charts"]["runs"]["points"]] == [0, 0, 0]
    assert (data["alerts"], data["window_days"]) == ([], 3)
    assert all(chart["id"] == name for name, chart in data["charts"].items())


async def test_figures_are_those_of_the_window(api: Api) -> None:
    person = await api.person()
    for days_ago in (0, 0, 1, 8):
        await run_row(api, person, "succeeded", days_ago, took_s=2)
    await run_row(api, person, "failed", 1, code="VERTEX_TIMEOUT")
    await run_row(api, person, "interrupted", 9, code="RUN_INTERRUPTED")
    await run_row(api, person, "cancelled", 0, code="RUN_CANCELLED")
    data = await summary(person, window_days=7)
    assert (cards(data)["runs"][0], cards(data)["run_success"], cards(data)["run_p95"][0]) == (
        "5", ("80.0 %", "1 failed in 7 days"), "2.00 s",
    )  # fmt: skip
    points = data["charts"]["runs"]["points"]
    assert [(point["value"], point["failed"]) for point in points] == [(0, 0)] * 5 + [(2, 1), (3, 0)]
    assert points[-1]["ts"] == datetime.now(UTC).date().isoformat()
    assert data["charts"]["errors"]["points"] == [{"label": "RUN_CANCELLED", "value": 1}, {"label": "VERTEX_TIMEOUT", "value": 1}]
    assert cards(await summary(person, window_days=30))["runs"][0] == "7"


@pytest.mark.slow
async def test_what_people_really_do_is_counted(api: Api) -> None:
    person = await api.person()
    corpus = await person.corpus()
    await person.text(corpus, "The treasure is on the island.")
    await person.run(corpus, "Where is the treasure?")
    colleague = await api.person("editor", person.tenant)
    await colleague.text(await colleague.corpus(), "Hidden from the admin.")
    data = await summary(person)
    assert (cards(data)["runs"][0], cards(data)["run_success"][0], cards(data)["documents"][0]) == ("1", "100.0 %", "2")
    assert int(cards(data)["tokens"][0]) > 0
    assert sum(point["value"] for point in data["charts"]["tokens"]["points"]) == int(cards(data)["tokens"][0])
    assert data["charts"]["documents"]["points"] == [{"label": "succeeded", "value": 2}]


async def test_alerts_say_what_needs_attention(api: Api) -> None:
    person = await api.person()
    for number in range(12):
        await run_row(api, person, "failed" if number < 2 else "succeeded", 0, code="RETRIEVAL_ERROR" if number < 2 else None)
    corpus = await person.corpus()
    await rows(
        api, "insert into documents (tenant_id, id, corpus_id, corpus_key, filename, content_type, source, ingest_source, status, "
        "size_bytes, sha256, blob_id) select tenant_id, 'd', id, key, 'f', 't', 's', 's', 'failed', 1, '', 'b' from corpora "
        "where tenant_id = $1 and id = $2", person.tenant, corpus,
    )  # fmt: skip
    alerts = {alert["id"]: alert["message"] for alert in (await summary(person))["alerts"]}
    assert alerts == {
        "runs.failing": "2 of 12 questions failed; the chart of errors has the codes.",
        "documents.failed": "1 documents could not be indexed.",
    }
    async with forced(api, Switch.RUN, person.tenant), forced(api, WRITE_FREEZE):
        alerts = {alert["id"]: alert["severity"] for alert in (await summary(person))["alerts"]}
    assert (alerts["kill.run"], alerts["write.freeze"]) == ("critical", "critical")


@pytest.mark.parametrize("period", ["day", "month"])
async def test_a_tenant_at_its_cap_is_told_so(api: Api, period: str) -> None:
    person, operator = await api.person(), await api.operator()
    limit = {"day": "daily_requests_limit", "month": "monthly_requests_limit"}[period]
    assert (await operator.patch(f"/v1/admin/quotas/{person.tenant}", json={limit: 0})).status_code == 200
    assert error_of(await person.get("/v1/corpora")) == ("QUOTA_EXCEEDED", 402)
    (alert,) = (await summary(person))["alerts"]
    assert (alert["id"], alert["severity"]) == (f"quota.{period}", "critical")


@pytest.mark.parametrize("days", ["0", "91", "-1", "x", "1.5"])
async def test_the_window_is_1_to_90_days(api: Api, days: str) -> None:
    assert error_of(await (await api.person()).get(PATH, params={"window_days": days})) == ("VALIDATION_ERROR", 422)


async def test_the_dashboard_is_for_admins_of_the_tenant(api: Api) -> None:
    admin, other = await api.person(), await api.person()
    await run_row(api, other, "succeeded", 0)
    assert cards(await summary(admin))["runs"][0] == "0"
    for role in ("editor", "reader"):
        assert error_of(await (await api.person(role, admin.tenant)).get(PATH)) == ("AUTH_FORBIDDEN", 403)


@pytest.mark.slow
async def test_figures_are_ones_own_without_the_second_wall_too(servers: Servers) -> None:
    async with walled(servers, "no row-level security") as api:
        person, stranger = await api.person(), await api.person()
        await run_row(api, stranger, "failed", 0, code="RETRIEVAL_ERROR")
        await stranger.text(await stranger.corpus(), "Words.", wait=False)
        await rows(
            api, "insert into usage_periods (tenant_id, period, starts_on, units, tokens) "
            "values ($1, 'day', (now() at time zone 'utc')::date, 5, 7) "
            "on conflict (tenant_id, period, starts_on) do update set units = 5, tokens = 7", stranger.tenant,
        )  # fmt: skip
        data = await summary(person)
        assert (cards(data)["runs"][0], cards(data)["tokens"][0], cards(data)["documents"][0]) == ("0", "0", "0")
        assert (data["charts"]["errors"]["points"], data["charts"]["documents"]["points"]) == ([], [])
