"""Features are checked where they are used, and every feature is checked somewhere."""

import ast
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

import nexusrag
from nexusrag.kernel.features import Feature
from nexusrag.kernel.principal import Credential
from tests.contract.table import known_routes
from tests.support.api import Api, Person, error_of
from tests.support.behind import rows

BEDROCK = {"retrieval": {"provider": "aws_bedrock_kb", "knowledge_base_id": "KB1", "region": "eu-central-1"}}
VERTEX = {"retrieval": {"provider": "gcp_vertex", "project": "p", "location": "global", "resource_id": "store"}}
LOCAL = {"retrieval": {"provider": "local_pgvector", "top_k_default": 7}}

# What no code checks yet, because what it opens comes with a later release.
NOTHING_TO_OPEN_YET: dict[Feature, str] = {}
# Costs have a code of their own, by contract.
OF_COSTS = {Feature.COST_VISIBILITY, Feature.COST_CONTROLS, Feature.CHARGEBACK_REPORTS}


def lacks(answer: httpx.Response, feature: Feature) -> bool:
    """Whether the answer says that the plan lacks `feature`."""
    assert error_of(answer) == ("COST_FEATURE_NOT_ENABLED" if feature in OF_COSTS else "FEATURE_NOT_ENABLED", 403)
    assert answer.json()["error"]["message"] == "Feature not enabled for tenant plan"
    return bool(answer.json()["error"]["details"] == {"feature_key": feature.value})


async def subscriber(free: Api, *features: Feature, without: Feature | None = None, role: str = "admin") -> Person:
    """Somebody whose tenant has the free plan and `features`, and nothing is known of their key yet."""
    person = await free.person(role)
    switched = {**dict.fromkeys(features, True), **({without: False} if without else {})}
    for feature, on in switched.items():
        statement = "insert into feature_overrides (tenant_id, feature_key, enabled) values ($1, $2, $3)"
        await rows(free, statement, person.tenant, feature.value, on)
    return person


# --- the registry ---------------------------------------------------------------------------------------------------


def named_in_code() -> set[Feature]:
    """Features that code of the product names, other than to list them."""
    found = set()
    package = Path(nexusrag.__file__).parent
    for file in package.rglob("*.py"):
        if file == package / "kernel" / "features.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Feature":
                found.add(Feature[node.attr])
    return found


def test_every_feature_is_checked_somewhere_or_has_nothing_to_open_yet() -> None:
    checked = named_in_code()
    assert checked | NOTHING_TO_OPEN_YET.keys() == set(Feature)
    assert checked & NOTHING_TO_OPEN_YET.keys() == set(), "no longer without a use"


async def test_every_route_with_a_feature_refuses_a_plan_without_it(free: Api) -> None:
    admin, asked = await free.person(), 0
    for route in known_routes(free):
        if route.gate.feature is None or route.legacy or Credential.API_KEY not in route.gate.credentials or route.gate.operator:
            continue
        answer = await admin.client.request(route.method, route.at(tenant_id=admin.tenant), content=b"nonsense")
        assert lacks(answer, route.gate.feature), route
        asked += 1
    assert asked >= 4


def test_operating_the_platform_needs_a_feature_and_being_alive_none(free: Api) -> None:
    for route in known_routes(free):
        under_ops = route.path.removeprefix("/v1").startswith("/ops/")
        assert (route.gate.feature is Feature.OPS_ADMIN_ACCESS) is under_ops, route
        assert not route.gate.is_public or route.gate.feature is None, route


# --- a tenant on the free plan --------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_the_free_plan_ingests_searches_and_asks(free: Api) -> None:
    admin = await free.person()
    corpus = await admin.corpus()
    await admin.text(corpus, "The ferry leaves at nine.", document_id="ferry")
    assert [passage["document_id"] for passage in await admin.search(corpus, "When does the ferry leave?")] == ["ferry"]
    assert (await admin.run(corpus, "When does the ferry leave?"))[-1].type == "done"
    for path in ("/v1/health", "/v1/documents/ferry", "/v1/ui/bootstrap", "/v1/self-serve/plan", f"/v1/admin/plans/{admin.tenant}"):
        assert (await admin.get(path)).status_code == 200, path
    assert (await admin.patch(f"/v1/corpora/{corpus}", json={"name": "Renamed", "visibility": "tenant"})).status_code == 200


async def test_a_spoken_answer_needs_its_feature(free: Api) -> None:
    mute, speaker = await free.person(), await subscriber(free, Feature.TTS)
    body = {"session_id": f"s-{mute.tenant}", "corpus_id": await mute.corpus(), "message": "Who?", "audio": True}
    assert lacks(await mute.post("/v1/run", json=body), Feature.TTS)
    assert await rows(free, "select id from runs where tenant_id = $1", mute.tenant) == [], "nothing was begun"
    assert "audio.ready" in [event.type for event in await speaker.run(await speaker.corpus(), "Who?", audio=True)]


@pytest.mark.parametrize(("config", "feature"), [(BEDROCK, Feature.AWS_BEDROCK), (VERTEX, Feature.GCP_VERTEX)])
async def test_a_corpus_is_made_for_a_provider_of_the_plan_alone(free: Api, config: dict[str, Any], feature: Feature) -> None:
    editor = await subscriber(free, role="editor")
    assert lacks(await editor.post("/v1/corpora", json={"name": "x", "provider_config_json": config}), feature)
    assert (await editor.get("/v1/corpora")).json()["data"] == []
    broken = {"retrieval": {"provider": config["retrieval"]["provider"]}}
    assert error_of(await editor.post("/v1/corpora", json={"name": "x", "provider_config_json": broken}))[0] == "RETRIEVAL_CONFIG_INVALID"
    allowed = await subscriber(free, feature, role="editor")
    assert (await allowed.post("/v1/corpora", json={"name": "x", "provider_config_json": config})).status_code == 201


async def test_changing_the_provider_needs_the_change_and_the_provider_in_the_plan(free: Api) -> None:
    for features, config, lacking in (
        ((), LOCAL, Feature.CORPORA_PATCH),
        ((Feature.AWS_BEDROCK,), BEDROCK, Feature.CORPORA_PATCH),
        ((Feature.CORPORA_PATCH,), BEDROCK, Feature.AWS_BEDROCK),
        ((Feature.CORPORA_PATCH,), LOCAL, None),
        ((Feature.CORPORA_PATCH, Feature.AWS_BEDROCK), BEDROCK, None),
    ):
        editor = await subscriber(free, *features, role="editor")
        corpus = await editor.corpus()
        before = (await editor.get(f"/v1/corpora/{corpus}")).json()["data"]
        answer = await editor.patch(f"/v1/corpora/{corpus}", json={"name": "Renamed", "provider_config_json": config})
        after = (await editor.get(f"/v1/corpora/{corpus}")).json()["data"]
        if lacking is None:
            assert (answer.status_code, after["name"]) == (200, "Renamed")
        else:
            assert lacks(answer, lacking)
            assert after == before, "half a change is none"


async def test_sending_the_configuration_that_stands_is_no_change(free: Api) -> None:
    editor = await free.person("editor")
    corpus = await editor.corpus()
    same = (await editor.get(f"/v1/corpora/{corpus}")).json()["data"]["provider_config_json"]
    for config in (same, {}):
        assert (await editor.patch(f"/v1/corpora/{corpus}", json={"provider_config_json": config})).status_code == 200


@pytest.mark.parametrize(
    ("config", "feature"), [(BEDROCK, Feature.AWS_BEDROCK), (VERTEX, Feature.GCP_VERTEX), (LOCAL, Feature.LOCAL_PGVECTOR)]
)
async def test_a_provider_that_left_the_plan_is_not_asked_any_more(free: Api, config: dict[str, Any], feature: Feature) -> None:
    """The corpus stays, and answers again when the plan has its provider again."""
    editor = await subscriber(free, without=feature, role="editor")
    await rows(
        free, "insert into corpora (tenant_id, id, name, provider_config) values ($1, 'c', 'x', $2::text::jsonb)", editor.tenant,
        json.dumps(config),
    )  # fmt: skip
    question = {"session_id": f"s-{editor.tenant}", "corpus_id": "c", "message": "Who?"}
    for answer in (await editor.post("/v1/corpora/c/search", json={"query": "x"}), await editor.post("/v1/run", json=question)):
        assert lacks(answer, feature)
    assert (await editor.get("/v1/corpora/c")).status_code == 200
