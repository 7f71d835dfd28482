"""The OpenAPI document: valid, and holding the endpoints and least roles of the interface that clients rely on."""

from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from nexusrag.kernel.actions import LEAST_ROLE
from nexusrag.web.route import GatedRoute
from tests.support.api import Api

TABLE = Path(__file__).parents[3] / "shared" / "contract" / "endpoints-nexusrag.tsv"
# Endpoints of the contract that stand in this release; each later part of the product adds its own.
ENDPOINTS = {
    ("GET", "/v1/audio/{audio_id}.mp3"), ("GET", "/v1/corpora"), ("GET", "/v1/corpora/{corpus_id}"), ("PATCH", "/v1/corpora/{corpus_id}"),
    ("GET", "/v1/docs"), ("GET", "/v1/documents"), ("POST", "/v1/documents"), ("POST", "/v1/documents/text"),
    ("DELETE", "/v1/documents/{document_id}"), ("GET", "/v1/documents/{document_id}"), ("POST", "/v1/documents/{document_id}/reindex"),
    ("GET", "/v1/health"), ("GET", "/v1/healthz"), ("GET", "/v1/metrics"), ("GET", "/v1/openapi.json"), ("GET", "/v1/ops/health"),
    ("GET", "/v1/ops/ingestion"), ("GET", "/v1/ops/metrics"), ("POST", "/v1/run"), ("POST", "/v1/ui/actions/reindex-document"),
    ("GET", "/v1/ui/documents"),
}  # fmt: skip
BEYOND = {
    ("POST", "/v1/corpora"), ("DELETE", "/v1/corpora/{corpus_id}"), ("POST", "/v1/corpora/{corpus_id}/search"),
    ("GET", "/v1/runs/{run_id}"), ("GET", "/v1/runs/{run_id}/events"), ("POST", "/v1/runs/{run_id}/cancel"),
}  # fmt: skip


@pytest.fixture
async def document(api: Api) -> Any:
    return (await api.anonymous().get("/v1/openapi.json")).json()


def test_the_document_is_valid(document: Any) -> None:
    validate(document)


def test_the_endpoints_are_there(document: Any) -> None:
    have = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert have >= ENDPOINTS | BEYOND
    assert not [path for path in document["paths"] if not path.startswith("/v1/")]


def test_every_operation_has_a_summary_and_enveloped_errors(document: Any) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation.get("description"), where
            for family in ("4XX", "5XX"):
                schema = operation["responses"][family]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorEnvelope"}, where
            # What FastAPI would answer by itself is not what is answered.
            assert "422" not in operation["responses"], where


@pytest.mark.skipif(not TABLE.exists(), reason="the contract's tables are not beside this checkout")
def test_each_endpoint_needs_the_role_that_the_contract_names(api: Api) -> None:
    rows = [line.split("\t") for line in TABLE.read_text().splitlines()[1:] if line]
    roles = {(method, path): role for method, path, role in rows}
    assert roles.keys() >= ENDPOINTS
    checked = 0
    for route in api.app.router.routes:
        assert isinstance(route, GatedRoute)
        for method in route.methods or ():
            if (method, route.path) in roles:
                role = LEAST_ROLE[route.gate.action].value if route.gate.action is not None else "public"
                assert role == roles[method, route.path], (method, route.path)
                checked += 1
    assert checked >= len(ENDPOINTS)
