"""Every route has a class and counts units, present and future ones."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.traffic import RouteClass, class_of
from nexusrag.pipeline import PIPELINE
from nexusrag.web.route import GatedRoute
from tests.support.api import Api

# What a tenant whose units are used up must still be able to do, and what only shows how much is left.
FREE = {
    Action.PLANS_READ, Action.PLANS_ASSIGN, Action.PLANS_REQUEST, Action.CONSOLE_READ,
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
