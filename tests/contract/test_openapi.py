"""The OpenAPI document: valid, and holding the endpoints and least roles of the interface that clients rely on."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from nexusrag.app import create_app
from nexusrag.kernel.actions import LEAST_ROLE
from nexusrag.kernel.principal import PERSONAL, Credential
from nexusrag.web.route import GatedRoute
from tests.contract.table import known_routes
from tests.support.api import Api
from tests.support.installation import Servers

TABLE = Path(__file__).parents[3] / "shared" / "contract" / "endpoints-nexusrag.tsv"
# Endpoints of the contract that stand in this release; each later part of the product adds its own.
ENDPOINTS = {
    ("GET", "/v1/audio/{audio_id}.mp3"), ("GET", "/v1/corpora"), ("GET", "/v1/corpora/{corpus_id}"), ("PATCH", "/v1/corpora/{corpus_id}"),
    ("GET", "/v1/docs"), ("GET", "/v1/documents"), ("POST", "/v1/documents"), ("POST", "/v1/documents/text"),
    ("DELETE", "/v1/documents/{document_id}"), ("GET", "/v1/documents/{document_id}"), ("POST", "/v1/documents/{document_id}/reindex"),
    ("GET", "/v1/health"), ("GET", "/v1/healthz"), ("GET", "/v1/metrics"), ("GET", "/v1/openapi.json"), ("GET", "/v1/ops/health"),
    ("GET", "/v1/ops/ingestion"), ("GET", "/v1/ops/metrics"), ("POST", "/v1/run"), ("POST", "/v1/ui/actions/reindex-document"),
    ("GET", "/v1/ui/documents"), ("GET", "/v1/ui/bootstrap"), ("GET", "/v1/ops/authz/posture"), ("GET", "/v1/admin/plans"),
    ("GET", "/v1/admin/plans/{tenant_id}"), ("PATCH", "/v1/admin/plans/{tenant_id}"), ("PATCH", "/v1/admin/plans/{tenant_id}/overrides"),
    ("GET", "/v1/self-serve/plan"), ("POST", "/v1/self-serve/plan/upgrade-request"), ("GET", "/v1/admin/identity/providers"),
    ("POST", "/v1/admin/identity/providers"), ("PATCH", "/v1/admin/identity/providers/{provider_id}"),
    ("POST", "/v1/admin/identity/providers/{provider_id}/enable"), ("POST", "/v1/admin/identity/providers/{provider_id}/disable"),
    ("POST", "/v1/admin/identity/providers/{provider_id}/rotate-secret-ref"), ("GET", "/v1/auth/sso/providers"),
    ("GET", "/v1/auth/sso/oidc/{provider_id}/start"), ("GET", "/v1/auth/sso/oidc/{provider_id}/callback"),
    ("POST", "/v1/admin/identity/scim/token/create"), ("POST", "/v1/admin/identity/scim/token/revoke"), ("GET", "/v1/scim/v2/Users"),
    ("POST", "/v1/scim/v2/Users"), ("GET", "/v1/scim/v2/Users/{user_id}"), ("PATCH", "/v1/scim/v2/Users/{user_id}"),
    ("DELETE", "/v1/scim/v2/Users/{user_id}"), ("GET", "/v1/scim/v2/Groups"), ("POST", "/v1/scim/v2/Groups"),
    ("PATCH", "/v1/scim/v2/Groups/{group_id}"), ("DELETE", "/v1/scim/v2/Groups/{group_id}"), ("GET", "/v1/scim/v2/ServiceProviderConfig"),
    ("GET", "/v1/admin/api-keys"), ("PATCH", "/v1/admin/api-keys/{key_id}"), ("GET", "/v1/self-serve/api-keys"),
    ("POST", "/v1/self-serve/api-keys"), ("GET", "/v1/self-serve/api-keys/inactive-report"),
    ("POST", "/v1/self-serve/api-keys/{key_id}/revoke"), ("GET", "/v1/admin/identity/users"),
    ("POST", "/v1/admin/identity/users/{user_id}/disable"), ("POST", "/v1/admin/identity/users/{user_id}/enable"),
    ("PATCH", "/v1/admin/identity/users/{user_id}/role"),
    ("GET", "/v1/admin/quotas/{tenant_id}"), ("PATCH", "/v1/admin/quotas/{tenant_id}"), ("GET", "/v1/admin/usage/{tenant_id}"),
    ("GET", "/v1/self-serve/usage/summary"), ("GET", "/v1/self-serve/usage/timeseries"),
    ("GET", "/v1/ui/activity"), ("GET", "/v1/ui/dashboard/summary"), ("GET", "/v1/admin/rollouts/killswitches"),
    ("PATCH", "/v1/admin/rollouts/killswitches"), ("GET", "/v1/admin/rollouts/canary"), ("PATCH", "/v1/admin/rollouts/canary"),
    ("POST", "/v1/admin/ops/actions/disable-tts"), ("POST", "/v1/admin/ops/actions/enable-shed"),
    ("POST", "/v1/admin/ops/actions/freeze-writes"), ("POST", "/v1/admin/ops/actions/reset-breaker"),
    ("POST", "/v1/admin/maintenance/run"), ("GET", "/v1/admin/retention/status"), ("POST", "/v1/self-serve/billing/webhook-test"),
    ("GET", "/v1/admin/costs/budget"), ("PATCH", "/v1/admin/costs/budget"), ("POST", "/v1/admin/costs/chargeback/generate"),
    ("GET", "/v1/admin/costs/chargeback/reports"), ("GET", "/v1/admin/costs/chargeback/reports/{report_id}"),
    ("GET", "/v1/admin/costs/pricing/catalog"), ("POST", "/v1/admin/costs/pricing/catalog"),
    ("GET", "/v1/admin/costs/spend/breakdown"), ("GET", "/v1/admin/costs/spend/summary"), ("GET", "/v1/admin/costs/spend/timeseries"),
    ("GET", "/v1/self-serve/costs/budget"), ("GET", "/v1/self-serve/costs/chargeback/latest"),
    ("GET", "/v1/self-serve/costs/spend/breakdown"), ("GET", "/v1/self-serve/costs/spend/summary"),
    ("GET", "/v1/self-serve/costs/spend/timeseries"),
    ("GET", "/v1/ops/slo"), ("GET", "/v1/admin/sla/policies"), ("POST", "/v1/admin/sla/policies"),
    ("PATCH", "/v1/admin/sla/policies/{policy_id}"), ("POST", "/v1/admin/sla/policies/{policy_id}/enable"),
    ("POST", "/v1/admin/sla/policies/{policy_id}/disable"), ("GET", "/v1/admin/sla/assignments/{tenant_id}"),
    ("PATCH", "/v1/admin/sla/assignments/{tenant_id}"), ("GET", "/v1/admin/sla/measurements"), ("GET", "/v1/admin/sla/incidents"),
    ("POST", "/v1/admin/sla/incidents/{incident_id}/resolve"), ("GET", "/v1/admin/sla/autoscaling/profiles"),
    ("POST", "/v1/admin/sla/autoscaling/profiles"), ("PATCH", "/v1/admin/sla/autoscaling/profiles/{profile_id}"),
    ("POST", "/v1/admin/sla/autoscaling/evaluate"), ("POST", "/v1/admin/sla/autoscaling/apply"),
    ("GET", "/v1/admin/sla/autoscaling/actions"),
}  # fmt: skip
BEYOND = {
    ("PATCH", "/v1/admin/costs/pricing/catalog/{price_id}"), ("GET", "/v1/admin/costs/pricing/in-force"),
    ("GET", "/v1/admin/costs/chargeback/reports/{report_id}.csv"),
    ("POST", "/v1/corpora"), ("DELETE", "/v1/corpora/{corpus_id}"), ("POST", "/v1/corpora/{corpus_id}/search"),
    ("POST", "/v1/admin/api-keys/{key_id}/rotate"), ("GET", "/v1/admin/identity/role-changes"),
    ("POST", "/v1/admin/identity/role-changes/{role_change_id}/approve"),
    ("POST", "/v1/admin/identity/role-changes/{role_change_id}/reject"), ("GET", "/v1/admin/identity/groups"),
    ("POST", "/v1/admin/identity/groups"), ("PATCH", "/v1/admin/identity/groups/{group_id}"),
    ("DELETE", "/v1/admin/identity/groups/{group_id}"), ("GET", "/v1/admin/identity/groups/{group_id}/members"),
    ("POST", "/v1/admin/identity/groups/{group_id}/members"), ("DELETE", "/v1/admin/identity/groups/{group_id}/members/{user_id}"),
    ("GET", "/v1/admin/authz/roles"), ("POST", "/v1/admin/authz/roles"), ("PATCH", "/v1/admin/authz/roles/{role_id}"),
    ("DELETE", "/v1/admin/authz/roles/{role_id}"), ("GET", "/v1/admin/authz/actions"),
    ("GET", "/v1/runs/{run_id}"), ("GET", "/v1/runs/{run_id}/events"), ("POST", "/v1/runs/{run_id}/cancel"),
    ("POST", "/v1/auth/register"), ("POST", "/v1/auth/login"), ("POST", "/v1/auth/refresh"), ("POST", "/v1/auth/logout"),
    ("GET", "/v1/auth/me"), ("POST", "/v1/auth/password"), ("GET", "/v1/auth/sessions"),
    ("DELETE", "/v1/auth/sessions/{auth_session_id}"), ("POST", "/v1/admin/identity/invitations"),
    ("GET", "/v1/admin/identity/invitations"), ("POST", "/v1/admin/identity/invitations/{invitation_id}/revoke"),
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


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_is_described_with_its_errors(api: Api, document: Any) -> None:
    provisioning = {str(route) for route in known_routes(api) if route.provisions}
    for where, operation in operations(document):
        media_type, model = ("application/scim+json", "ScimError") if where in provisioning else ("application/json", "ErrorEnvelope")
        assert operation.get("description"), where
        refused = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
        assert {"400", "4XX", "5XX"} <= refused.keys(), where
        for answer in refused.values():
            assert answer["content"] == {media_type: {"schema": {"$ref": f"#/components/schemas/{model}"}}}, where


def test_every_operation_says_what_it_answers(document: Any) -> None:
    kinds = {}
    for where, operation in operations(document):
        (status,) = [status for status in operation["responses"] if status < "400"]
        content = operation["responses"][status].get("content", {})
        assert (status == "204") is not bool(content), where
        kinds[where] = next(iter(content), None)
        assert kinds[where] != "application/json" or content["application/json"] != {"schema": {}}, where
    assert kinds["POST /v1/run"] == "text/event-stream"
    assert kinds["GET /v1/audio/{audio_id}.mp3"] == "audio/mpeg"


def test_every_operation_names_credential_role_and_refusals_of_its_gate(api: Api, document: Any) -> None:
    schemes = document["components"]["securitySchemes"]
    assert {scheme["scheme"] for scheme in schemes.values()} == {"bearer"}
    routes = {str(route): route for route in known_routes(api) if not route.legacy}
    assert routes.keys() == dict(operations(document)).keys()
    for where, operation in operations(document):
        gate, role = routes[where].gate, routes[where].least_role
        if gate.credentials <= PERSONAL and role is not None:
            ((scheme, roles),) = operation["security"][0].items()
            assert (scheme, roles[0], "operator" in roles) == ("key", role.value, gate.operator), where
        else:
            assert operation["security"] == ([] if gate.is_public else [{"scim": []}]), where
        answers, reads_body = operation["responses"], "requestBody" in operation
        assert ("401" in answers) is not gate.is_public, where
        assert ("404" in answers) is (gate.on is not None or gate.reach == "operators"), where
        assert ("413" in answers) is ("415" in answers) is reads_body, where
        assert "503" in answers or not gate.transaction, where
        assert ("400" if routes[where].provisions else "422") in answers or not reads_body, where


def test_every_keyed_operation_takes_the_key(api: Api, document: Any) -> None:
    keyed = {str(route) for route in known_routes(api) if route.gate.idempotent and route.method != "GET"}
    for where, operation in operations(document):
        headers = {parameter["name"]: parameter for parameter in operation["parameters"] if parameter["in"] == "header"}
        assert ("Idempotency-Key" in headers) is (where in keyed), where
        assert ("409" in operation["responses"]) is ("Idempotency-Key" in headers), where
        for parameter in re.findall(r"{(\w+)}", where):
            assert [one["in"] for one in operation["parameters"] if one["name"] == parameter] == ["path"], where


def test_a_header_of_ones_own_is_the_credential_of_the_document(servers: Servers) -> None:
    document = create_app(servers.with_env(AUTH_API_KEY_HEADER="X-API-Key")).openapi()
    scheme = document["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-API-Key")


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
                scim = Credential.SCIM in route.gate.credentials
                role = "scim-token" if scim else LEAST_ROLE[route.gate.action].value if route.gate.action is not None else "public"
                assert role == roles[method, route.path], (method, route.path)
                checked += 1
    assert checked >= len(ENDPOINTS)


async def test_the_interface_can_be_read_without_a_network(api: Api) -> None:
    answer = await api.anonymous().get("/v1/docs")
    document = (await api.anonymous().get("/v1/openapi.json")).json()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert all(f"</b> {path} <small>" in answer.text for path in document["paths"])
    links = set(re.findall(r'(?:href|src)="([^"]*)"', answer.text))
    assert links <= {"/v1/openapi.json", *(f"#{name}" for name in document["components"]["schemas"])}
    assert all(f'id="{name}"' in answer.text for name in document["components"]["schemas"])
    assert "script" not in answer.text.lower().replace("description", "")
