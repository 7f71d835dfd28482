"""Every route has a class and counts units, present and future ones."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.traffic import RouteClass, class_of
from nexusrag.pipeline import PIPELINE
from nexusrag.web.route import GatedRoute
from tests.support.api import Api

# What a tenant whose units are used up must still be able to do, and what only shows how much is left.
FREE = {
    Action.PLANS_READ, Action.PLANS_ASSIGN, Action.PLANS_REQUEST, Action.CONSOLE_READ, Action.DASHBOARD_READ, Action.RUNS_READ,
    Action.RUNS_CANCEL, Action.AUDIO_READ, Action.SCIM_PROVISION, Action.OPS_READ,
}  # fmt: skip
# Of actions that count otherwise: what takes access away, and where it is found.
FREE_ROUTES = {
    ("GET", "/v1/admin/api-keys"), ("PATCH", "/v1/admin/api-keys/{key_id}"), ("GET", "/v1/self-serve/api-keys"),
    ("POST", "/v1/self-serve/api-keys/{key_id}/revoke"), ("GET", "/v1/admin/identity/users"),
    ("POST", "/v1/admin/identity/users/{user_id}/disable"), ("PATCH", "/v1/admin/identity/users/{user_id}/role"),
    ("GET", "/v1/auth/sessions"), ("DELETE", "/v1/auth/sessions/{auth_session_id}"), ("POST", "/v1/auth/logout"),
    ("POST", "/v1/auth/password"),
    ("GET", "/v1/admin/identity/invitations"), ("POST", "/v1/admin/identity/invitations/{invitation_id}/revoke"),
    ("GET", "/v1/admin/identity/providers"), ("POST", "/v1/admin/identity/providers/{provider_id}/disable"),
    ("GET", "/v1/admin/identity/scim/tokens"), ("POST", "/v1/admin/identity/scim/token/revoke"),
}  # fmt: skip
PROBED = {"/v1/health", "/v1/healthz", "/v1/metrics", "/health", "/healthz"}


def routes(api: Api) -> list[GatedRoute]:
    return [route for route in api.app.router.routes if isinstance(route, GatedRoute)]


def test_every_route_has_the_class_of_its_versioned_path(api: Api) -> None:
    classes = {(method, route.path): route.route_class for route in routes(api) for method in route.methods or ()}
    for route in routes(api):
        (method,) = route.methods or ()
        assert isinstance(route.route_class, RouteClass)
        assert route.gate.rate is not None or route.route_class is class_of(method, route.path), route.path
        assert not route.legacy or route.route_class is classes[method, f"/v1{route.path}"], route.path
    assert {path for (_, path), one in classes.items() if one is RouteClass.RUN} == {"/v1/run", "/run"}
    assert classes["GET", "/v1/documents"] is RouteClass.READ
    assert classes["DELETE", "/v1/documents/{document_id}"] is RouteClass.MUTATION
    assert classes["GET", "/v1/ops/health"] is RouteClass.OPS


def test_runs_count_three_units_public_routes_none_and_others_at_most_one(api: Api) -> None:
    for route in routes(api):
        gate = route.gate
        if gate.is_public:
            assert gate.units == 0, route.path
        elif route.route_class is RouteClass.RUN:
            assert gate.units == 3, route.path
        else:
            assert gate.units in (0, 1), route.path
        assert gate.units == 0 or gate.action not in FREE, route.path
    units = {(method, route.path): route.gate.units for route in routes(api) for method in route.methods or ()}
    assert {route: units.get(route) for route in FREE_ROUTES} == dict.fromkeys(FREE_ROUTES, 0)


def test_every_route_passes_the_limits_that_are_meant_for_it(api: Api) -> None:
    for route in routes(api):
        before, within = route.stages(PIPELINE)
        names = [stage.name for stage in (*before, *within)]
        if route.gate.is_public:
            assert ("address" in names) is (route.path not in PROBED), route.path
            assert "rate limit" not in names and "quota" not in names
        else:
            assert "address" not in names
            assert names.index("authenticate") < names.index("rate limit") < names.index("role") < names.index("quota"), route.path
            for earlier in ("idempotency", "bulkhead", "policies of the resource"):
                assert earlier not in names or names.index(earlier) < names.index("quota"), route.path
