"""Builds the HTTP application from the domains. Refuses to start with a route that has no gate."""

import functools
import inspect
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from nexusrag import __version__
from nexusrag.domains import DOMAINS
from nexusrag.infra.ids import request_id_of
from nexusrag.infra.loop import settle_memory
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.operations.sla.door import at_the_door
from nexusrag.operations.sla.overload import OverloadGuard
from nexusrag.pipeline import PIPELINE
from nexusrag.process import open_process
from nexusrag.settings import Settings
from nexusrag.web import openapi, reference
from nexusrag.web.domain import Domain
from nexusrag.web.envelope import ENVELOPED, Envelope, Listed, error_response, errors_below
from nexusrag.web.gate import public
from nexusrag.web.hosts import AllowedHosts
from nexusrag.web.legacy import legacy_headers, legacy_path
from nexusrag.web.route import GatedRoute, invalid
from nexusrag.web.router import Declared, Router

_META = Router("", tag="Meta")
_BUSY = ("agents", "knowledge")
_NOT_FOUND = ApiError(ErrorCode.NOT_FOUND, "No such path; see /v1/docs.")


def create_app(settings: Settings, *, domains: Sequence[Domain] = DOMAINS) -> FastAPI:
    """The application; it opens its resources when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_process(settings, domains) as resources:
            app.state.resources = resources
            settle_memory()
            yield

    app = FastAPI(
        title="NexusRAG",
        description=openapi.DESCRIPTION,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # a redirect would follow the Host header and carry credentials along
    )
    app.state.pipeline = PIPELINE
    app.state.loaders = {kind: load for domain in domains for kind, load in domain.loaders.items()}
    app.state.resources = Resources()
    app.state.errors = {router.prefix: router.errors for domain in domains for router in domain.routers if router.errors is not ENVELOPED}
    app.state.drains = [drain for domain in domains for drain in domain.drains]
    hosts = [host.strip() for host in settings.web.allowed_hosts.split(",") if host.strip()]
    if hosts != ["*"]:
        app.add_middleware(AllowedHosts, hosts=hosts, errors=app.state.errors)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.router.routes[:] = routes_of((*domains, _meta_domain()), legacy=settings.web.legacy_routes_enabled)
    check_routes(app.router.routes, expected=len(app.router.routes))
    described = functools.partial(openapi.complete, routes=_gated(app), key_header=settings.auth.auth_api_key_header)
    app.openapi = functools.cache(lambda: described(FastAPI.openapi(app)))  # type: ignore[method-assign]  # as FastAPI has it extended
    app.state.reference = functools.cache(lambda: reference.page(app.openapi()))
    app.state.door = at_the_door(app)
    app.middleware_stack = OverloadGuard(app.build_middleware_stack())  # around the framework's own: nothing is spent on what it refuses
    return app


def routes_of(domains: Sequence[Domain], *, legacy: bool) -> list[BaseRoute]:
    """Every route of the domains, and the aliases of those that have one. They are tried in this order: the busy ones first."""
    domains = sorted(domains, key=lambda domain: domain.wing not in _BUSY)
    declared = [route for domain in domains for router in domain.routers for route in router.routes]
    routes: list[BaseRoute] = [_route(route, route.path, alias=False) for route in declared]
    if legacy:
        routes += [_route(route, legacy_path(route.path), alias=True) for route in declared if route.gate.legacy]
    return routes


def check_routes(routes: Sequence[BaseRoute], *, expected: int) -> int:
    """Refuse whatever is not a gated route, and a path that is declared twice; returns how many were walked."""
    seen: set[tuple[str, str]] = set()
    for route in routes:
        if not isinstance(route, GatedRoute):
            raise RuntimeError(f"{route!r} passes no gate")
        for method in route.methods or ():
            if (method, route.path_format) in seen:
                raise RuntimeError(f"{method} {route.path_format} is declared twice")
            seen.add((method, route.path_format))
    if len(routes) != expected or not routes:
        raise RuntimeError("some routes were not walked")
    return len(routes)


def _route(declared: Declared, path: str, *, alias: bool) -> GatedRoute:
    returned = inspect.signature(declared.endpoint, eval_str=True).return_annotation
    bare = inspect.isclass(returned) and issubclass(returned, Response)
    return GatedRoute(
        path,
        declared.endpoint,
        gate=declared.gate,
        legacy=alias,
        errors=declared.errors,
        methods=[declared.method],
        status_code=declared.status_code,
        response_model=None if bare or declared.status_code == 204 else _model(returned, declared),
        response_class=Response if bare else JSONResponse,
        tags=[declared.tag],
        include_in_schema=not alias,
        deprecated=alias or None,
        responses=openapi.responses(declared),
        name=declared.endpoint.__name__,
    )


def _model(returned: Any, declared: Declared) -> Any:
    if getattr(returned, "__origin__", None) is Listed:
        returned = list[returned.__args__[0]]
    return Envelope[returned] if declared.gate.enveloped else returned


@_META.get("/openapi.json", gate=public("the interface is no secret", enveloped=False), media_type="application/json")
async def interface(request: Request) -> Response:
    """The OpenAPI document of this release."""
    return JSONResponse(request.app.openapi())


@_META.get("/docs", gate=public("the interface is no secret", enveloped=False), media_type="text/html")
async def docs(request: Request) -> Response:
    """The interface, to read."""
    return HTMLResponse(request.app.state.reference(), headers=reference.HEADERS)


def _meta_domain() -> Domain:
    return Domain(name="meta", wing="web", routers=(_META,))


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette refuses itself: unknown paths and methods."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        return _wrong_method(request)
    known = _NOT_FOUND if status == 404 else ApiError(ErrorCode.BAD_REQUEST, "The request cannot be understood.")
    return errors_below(request.app.state.errors, request.scope["path"]).answer(known, request_id_of(request))


def _wrong_method(request: Request) -> Response:
    """Names what the path takes: the framework knows the methods of one route, and a path may have several."""
    here = [route for route in _gated(request.app) if route.matches(request.scope)[0] is not Match.NONE]
    methods = ", ".join(sorted({method for route in here for method in route.methods or ()}))
    error = ApiError(ErrorCode.METHOD_NOT_ALLOWED, f"Use {methods} here.", headers={"Allow": methods})
    if all(route.legacy for route in here):
        return error_response(error, request_id_of(request), legacy=True, headers=legacy_headers())
    return here[0].errors.answer(error, request_id_of(request))


def _gated(app: FastAPI) -> list[GatedRoute]:
    return [route for route in app.router.routes if isinstance(route, GatedRoute)]


async def _validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return error_response(invalid(error), request_id_of(request))
