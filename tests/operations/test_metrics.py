"""/v1/metrics: text that Prometheus reads without complaint, and that names no tenant, person or document."""

import re
import shutil
import subprocess
from time import monotonic

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nexusrag.infra import metrics
from tests.support.api import Api
from tests.support.processes import until


async def scraped(api: Api) -> str:
    metrics._rendered.cache_clear()
    answer = await api.anonymous().get("/v1/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert answer.headers["X-Request-Id"]
    return answer.text


async def test_every_family_has_help_and_a_type_and_a_good_name(api: Api) -> None:
    families = list(text_string_to_metric_families(await scraped(api)))
    assert {"nexusrag_http_requests", "nexusrag_runs", "nexusrag_jobs"} <= {family.name for family in families}
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert re.fullmatch(r"nexusrag_[a-z_]+", family.name), family.name
        assert not re.search(r"_(ms|milliseconds|minutes|mb)$", family.name), family.name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_has_nothing_to_say(api: Api) -> None:
    said = subprocess.run(
        ["promtool", "check", "metrics"], input=await scraped(api), capture_output=True, text=True, timeout=30, check=False
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


@pytest.mark.slow
async def test_no_label_tells_who_or_what(api: Api) -> None:
    person = await api.person()
    corpus = await person.corpus()
    document = await person.text(corpus, "Counted, not named.")
    events = await person.run(corpus, "What is counted?")
    await person.get(f"/v1/documents/{document}")
    await person.get("/v1/nothing/here")
    text = await scraped(api)
    for name in (person.tenant, person.user_id, person.key_id, corpus, document, (events[0].id or "").partition(".")[0], "nothing"):
        assert name not in text, name
    # Routes are counted by template, so the number of series does not grow with use.
    routes = {
        sample.labels["route"] for family in text_string_to_metric_families(text) for sample in family.samples if "route" in sample.labels
    }
    assert "/v1/documents/{document_id}" in routes
    assert routes <= {route.path for route in api.app.router.routes}  # type: ignore[attr-defined]  # all are gated routes


async def test_a_flood_is_answered_from_what_was_written_for_the_first(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []

    def counting(registry: CollectorRegistry) -> bytes:
        written.append(monotonic())
        return generate_latest(registry)

    monkeypatch.setattr(metrics, "generate_latest", counting)
    metrics._rendered.cache_clear()
    client, begun = api.anonymous(), monotonic()
    for _ in range(100):
        assert "nexusrag_http_requests_total" in (await client.get("/v1/metrics")).text
    assert len(written) <= monotonic() - begun + 2

    async def anew() -> bool:
        return (await client.get("/v1/metrics")).status_code == 200 and written[-1] > begun + 1

    await until(anew)


async def test_requests_are_counted_by_route_and_status(api: Api) -> None:
    def counted(text: str) -> float:
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "nexusrag_http_requests_total"
            and (sample.labels["route"], sample.labels["status"], sample.labels["method"]) == ("/v1/corpora/{corpus_id}", "404", "GET")
        )

    before = counted(await scraped(api))
    person = await api.person()
    for number in range(3):
        await person.get(f"/v1/corpora/nope-{number}")
    assert counted(await scraped(api)) == before + 3
