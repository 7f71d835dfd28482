"""Health and the operators' views: 200 with what is away, of one's own tenant, for admins alone."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.api import Api, error_of
from tests.support.installation import Servers, serving


async def test_health_needs_no_key_and_gives_nothing_away(api: Api) -> None:
    for path in ("/v1/health", "/v1/healthz"):
        answer = await api.anonymous().get(path)
        assert (answer.status_code, answer.json()["data"]) == (200, {"status": "ok"})
        assert "server" not in answer.headers


async def test_the_operators_views_are_for_admins(api: Api) -> None:
    editor = await api.person("editor")
    for path in ("/v1/ops/health", "/v1/ops/ingestion", "/v1/ops/metrics"):
        assert error_of(await editor.get(path)) == ("AUTH_FORBIDDEN", 403)


async def test_the_operators_views_are_there_for_a_tenant_at_its_cap(api: Api) -> None:
    admin, operator = await api.person(), await api.operator()
    assert (await operator.patch(f"/v1/admin/quotas/{admin.tenant}", json={"daily_requests_limit": 0})).status_code == 200
    assert error_of(await admin.get("/v1/corpora")) == ("QUOTA_EXCEEDED", 402)
    for path in ("/v1/ops/health", "/v1/ops/ingestion", "/v1/ops/metrics", "/v1/ops/authz/posture"):
        assert (await admin.get(path)).status_code == 200, path
    assert error_of(await admin.get("/v1/ops/slo")) == ("SLO_DATA_UNAVAILABLE", 503)


@pytest.mark.slow
async def test_all_is_well_while_a_worker_reports(api: Api) -> None:
    admin = await api.person()
    async with asyncio.timeout(10):
        while (view := (await admin.get("/v1/ops/health")).json()["data"])["worker"] != "ok":
            await asyncio.sleep(0.05)
    assert (view["status"], view["degraded"], view["db"], view["redis"]) == ("ok", [], "ok", "ok")
    assert view["worker_heartbeat_age_s"] >= 0
    assert view["queue_depth"] is not None
    assert view["time"].endswith("Z")


@pytest.mark.slow
async def test_ingestion_is_told_of_ones_own_tenant(api: Api) -> None:
    admin, other = await api.person(), await api.person()
    corpus = await admin.corpus()
    await admin.text(corpus, "Went well.")
    failed = (await admin.upload(corpus, "a.json", b'{"no": "text"}')).json()["data"]["document_id"]
    await admin.settled(failed)
    view = (await admin.get("/v1/ops/ingestion")).json()["data"]
    assert (view["hours"], view["status"], view["documents"]) == (24, "ok", {"succeeded": 1, "failed": 1})
    assert 0 <= view["p50_duration_s"] <= view["p95_duration_s"]
    assert [failure["document_id"] for failure in view["failures"]] == [failed]
    assert view["failures"][0]["failure_reason"]
    elsewhere = (await other.get("/v1/ops/ingestion", params={"hours": 1})).json()["data"]
    assert (elsewhere["hours"], elsewhere["documents"], elsewhere["failures"], elsewhere["p50_duration_s"]) == (1, {}, [], None)
    for hours in ("0", "721", "x"):
        assert error_of(await admin.get("/v1/ops/ingestion", params={"hours": hours})) == ("VALIDATION_ERROR", 422)


async def test_metrics_are_there_as_json_too(api: Api) -> None:
    view = (await (await api.person()).get("/v1/ops/metrics")).json()["data"]
    assert "nexusrag_runs_active" in view["gauges"]
    assert any(name.startswith("nexusrag_http_requests_total{") for name in view["counters"])


@pytest.fixture
async def without_redis(servers: Servers) -> AsyncIterator[Api]:
    """An API whose Redis is not there."""
    async with serving(servers.with_env(REDIS_URL="redis://127.0.0.1:9/0", INGEST_QUEUE_NAME="idle")) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


@pytest.mark.slow
async def test_what_is_away_is_named_and_the_rest_goes_on(without_redis: Api) -> None:
    admin = await without_redis.person()
    view = (await admin.get("/v1/ops/health")).json()["data"]
    assert (view["status"], view["redis"], view["db"]) == ("degraded", "degraded", "ok")
    assert "redis" in view["degraded"]
    corpus = await admin.corpus()
    accepted = await admin.post("/v1/documents/text", json={"corpus_id": corpus, "text": "Taken without Redis."})
    assert accepted.status_code == 202
    assert (await admin.run(corpus, "Anything?"))[-1].type == "done"
