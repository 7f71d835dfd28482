"""A route without a gate cannot be declared, and the application refuses whatever came in another way."""

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from nexusrag.app import check_routes, routes_of
from nexusrag.kernel.actions import Action
from nexusrag.web.call import Call
from nexusrag.web.domain import Domain
from nexusrag.web.gate import gate, public
from nexusrag.web.router import Router

READ = gate(Action.CORPORA_READ, legacy=True)


async def handler(call: Call) -> dict[str, str]:
    """Answers."""
    return {}


def routes(*paths: str, legacy: bool = False) -> list[BaseRoute]:
    router = Router("things", tag="Things")
    for path in paths:
        router.get(path, gate=READ)(handler)
    return routes_of([Domain(name="things", wing="web", routers=(router,))], legacy=legacy)


@pytest.mark.parametrize("method", ["get", "post", "patch", "delete"])
@pytest.mark.parametrize("instead", [{}, {"gate": None}, {"gate": Action.CORPORA_READ}, {"gate": READ.action}])
def test_a_route_without_a_gate_cannot_be_declared(method: str, instead: dict[str, Any]) -> None:
    router = Router("things", tag="Things")
    with pytest.raises(TypeError):
        getattr(router, method)("", **instead)
    assert router.routes == []


def test_a_public_route_gives_its_reason() -> None:
    with pytest.raises(ValueError, match="reason"):
        public("")


def test_declared_routes_are_walked_and_counted() -> None:
    assert check_routes(routes("", "/{thing_id}"), expected=2) == 2
    assert [route.path for route in routes("/x", legacy=True) if isinstance(route, Route)] == ["/v1/things/x", "/things/x"]


@pytest.mark.parametrize(
    "foreign",
    [
        Route("/v1/foreign", lambda request: None),
        Mount("/v1/static", StaticFiles(directory=".")),
        Mount("/sub", FastAPI()),
        WebSocketRoute("/v1/socket", lambda socket: None),
        *FastAPI().router.routes,
    ],
    ids=lambda route: type(route).__name__ + getattr(route, "path", ""),
)
def test_what_passes_no_gate_stops_the_start(foreign: BaseRoute) -> None:
    with pytest.raises(RuntimeError, match="passes no gate"):
        check_routes([*routes(""), foreign], expected=2)


def test_a_path_declared_twice_stops_the_start() -> None:
    with pytest.raises(RuntimeError, match="declared twice"):
        check_routes(routes("/x", "/x"), expected=2)


def test_a_route_that_was_not_walked_stops_the_start() -> None:
    with pytest.raises(RuntimeError, match="not walked"):
        check_routes(routes(""), expected=2)
    with pytest.raises(RuntimeError, match="not walked"):
        check_routes([], expected=0)
