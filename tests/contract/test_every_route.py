"""What holds for every route of the application, present and future."""

import httpx

from nexusrag.kernel.actions import LEAST_ROLE, Action, Resource, Role
from nexusrag.web.route import GatedRoute
from tests.contract.table import Known, known_routes
from tests.support.api import Api

# Routes with an id in the path whose handler decides by itself what the caller is told.
OWN_JUDGEMENT = {
    "/v1/runs/{run_id}/events", "/v1/auth/sso/oidc/{provider_id}/start", "/v1/auth/sso/oidc/{provider_id}/callback",
}  # fmt: skip
# Public routes to which a bare request is not enough: what is named is made up, or nobody may ask.
UNANSWERED = {
    "GET /v1/auth/sso/providers": 403,
    "GET /v1/auth/sso/oidc/{provider_id}/start": 404, "GET /v1/auth/sso/oidc/{provider_id}/callback": 404,
}  # fmt: skip
# Writes that answer with a secret, or read one: nothing of them may be kept, not even for a repetition.
SECRET = {
    "POST /v1/auth/register", "POST /v1/auth/login", "POST /v1/auth/refresh", "POST /v1/auth/password",
}  # fmt: skip


# Questions too long for a query: asked again, they are answered again.
QUESTIONS = {
    "POST /v1/corpora/{corpus_id}/search", "POST /v1/admin/authz/policies/{policy_id}/simulate",
    "POST /v1/admin/authz/policies/{policy_id}/impact",
}  # fmt: skip
# Kinds whose absence has a code of its own, by contract.
NOT_FOUND = {Resource.CHARGEBACK_REPORT: "COST_CHARGEBACK_REPORT_NOT_FOUND"}


def refusal(route: Known, answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    if route.provisions:
        assert (body["status"], answer.headers["content-type"]) == (str(answer.status_code), "application/scim+json"), route
        return answer.status_code, body.get("scimType", "")
    error = body["detail"] if route.legacy else body["error"]
    assert set(body) == ({"detail"} if route.legacy else {"error", "meta"}), route
    assert answer.headers["X-Request-Id"] == (answer.headers["X-Request-Id"] if route.legacy else body["meta"]["request_id"])
    assert ("Deprecation" in answer.headers) is route.legacy
    return answer.status_code, error["code"]


def test_every_action_has_a_least_role() -> None:
    assert set(LEAST_ROLE) == set(Action)


def test_every_gate_can_find_its_resource(api: Api) -> None:
    for route in known_routes(api):
        named = [name for name in route.parameters if name.endswith("_id") and name != "tenant_id"]  # the tenant boundary's
        if route.gate.on is None:
            assert not named or route.path in OWN_JUDGEMENT, route
        else:
            assert route.gate.on in api.app.state.loaders, route
            assert route.gate.at == "body" or route.gate.on.id_name in named, route


def test_a_public_route_gives_its_reason_and_writes_nothing_but_logins(api: Api) -> None:
    for route in known_routes(api):
        if route.gate.is_public:
            assert route.gate.reason, route
            assert route.method == "GET" or str(route) in SECRET, route


def test_every_write_that_may_be_repeated_is_idempotent(api: Api) -> None:
    writes = [route for route in known_routes(api) if route.method != "GET"]
    unkeyed = {str(route) for route in writes if not route.gate.idempotent and not route.provisions}
    assert unkeyed == QUESTIONS | SECRET
    # SCIM has no such header (RFC 7644), and no client sends it: userName and externalId say what is there already.
    assert all(route.path.startswith("/v1/scim/v2/") for route in writes if route.provisions)


def test_every_alias_is_of_a_route_under_v1(api: Api) -> None:
    versioned = {(route.method, route.path) for route in known_routes(api) if not route.legacy}
    for route in known_routes(api):
        assert route.path.startswith("/v1/") is not route.legacy, route
        if route.legacy:
            assert (route.method, f"/v1{route.path}") in versioned


async def test_every_route_refuses_a_stranger(api: Api) -> None:
    client = api.anonymous()
    for route in known_routes(api):
        answer = await client.request(route.method, route.at(), content=b"nonsense" if route.method != "GET" else None)
        if route.gate.is_public:
            assert answer.status_code == UNANSWERED.get(str(route), 200 if route.method == "GET" else 422), route
        else:
            assert refusal(route, answer) == (401, "" if route.provisions else "AUTH_UNAUTHORIZED"), route
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_every_route_refuses_a_role_that_is_too_low(api: Api) -> None:
    people = {role: await api.person(role.value) for role in Role}
    for route in known_routes(api):
        for role in Role:
            if route.provisions or route.least_role is None or role.rank >= route.least_role.rank:
                continue
            person = people[role]
            answer = await person.client.request(route.method, route.at(tenant_id=person.tenant), content=b"nonsense")
            assert refusal(route, answer) == (403, "AUTH_FORBIDDEN"), (route, role)


async def test_every_route_with_an_id_answers_not_found_in_the_same_words(api: Api) -> None:
    admin = await api.person()
    for route in known_routes(api):
        if route.provisions or route.gate.on is None or route.gate.at == "body":
            continue
        answer = await admin.client.request(route.method, route.at(), json={} if route.method != "GET" else None)
        missing = NOT_FOUND.get(route.gate.on, "NOT_FOUND")
        assert refusal(route, answer) == (404, missing) or refusal(route, answer)[1] == "VALIDATION_ERROR", route


async def test_every_answer_carries_the_request_id(api: Api) -> None:
    admin = await api.person()
    for route in known_routes(api):
        answer = await admin.client.request(route.method, route.at(), headers={"X-Request-Id": "test-1"})
        assert answer.headers["X-Request-Id"] == "test-1", route


def test_no_route_answers_two_methods(api: Api) -> None:
    for route in api.app.router.routes:
        assert isinstance(route, GatedRoute)
        assert len(route.methods or ()) == 1
