"""Builds the HTTP application from the domains. Refuses to start with a route that has no gate."""

import inspect
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import BaseRoute, Match

from nexusrag import __version__
from nexusrag.domains import DOMAINS
from nexusrag.infra.ids import request_id_of
from nexusrag.infra.loop import settle_memory
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.pipeline import PIPELINE
from nexusrag.process import open_process
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain
from nexusrag.web.envelope import Envelope, ErrorEnvelope, Listed, error_response
from nexusrag.web.gate import public
from nexusrag.web.legacy import legacy_path
from nexusrag.web.route import GatedRoute, invalid
from nexusrag.web.router import Declared, Router

_ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorEnvelope}, "5XX": {"model": ErrorEnvelope}}
_META = Router("", tag="Meta")
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
    hosts = [host.strip() for host in settings.web.allowed_hosts.split(",") if host.strip()]
    if hosts != ["*"]:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.router.routes[:] = routes_of((*domains, _meta_domain()), legacy=settings.web.legacy_routes_enabled)
    check_routes(app.router.routes, expected=len(app.router.routes))
    return app


def routes_of(domains: Sequence[Domain], *, legacy: bool) -> list[BaseRoute]:
    """Every route of the domains, and the aliases of those that have one."""
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
    return GatedRoute(
        path,
        declared.endpoint,
        gate=declared.gate,
        legacy=alias,
        methods=[declared.method],
        status_code=declared.status_code,
        response_model=None if declared.status_code == 204 else _model(returned, declared),
        tags=[declared.tag],
        include_in_schema=not alias,
        deprecated=alias or None,
        responses={**_ERRORS, **(declared.responses or {})},
        name=declared.endpoint.__name__,
        openapi_extra={"parameters": _named_by_gate(declared)},
    )


def _named_by_gate(declared: Declared) -> list[dict[str, Any]]:
    """Path parameters that the gate reads: the handler does not name them, so the framework does not describe them."""
    names = set(re.findall(r"{(\w+)}", declared.path)) - set(inspect.signature(declared.endpoint).parameters)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in sorted(names)]


def _model(returned: Any, declared: Declared) -> Any:
    if isinstance(returned, type) and issubclass(returned, Response):
        return None
    if getattr(returned, "__origin__", None) is Listed:
        returned = list[returned.__args__[0]]
    return Envelope[returned] if declared.gate.enveloped else returned


@_META.get("/openapi.json", gate=public("the interface is no secret", enveloped=False))
async def openapi(request: Request) -> Response:
    """The OpenAPI document of this release."""
    return JSONResponse(request.app.openapi())


@_META.get("/docs", gate=public("the interface is no secret", enveloped=False))
async def docs() -> Response:
    """The interface, to read and to try."""
    return get_swagger_ui_html(openapi_url="/v1/openapi.json", title="NexusRAG")


def _meta_domain() -> Domain:
    return Domain(name="meta", wing="web", routers=(_META,))


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette refuses itself: unknown paths and methods."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    known = _NOT_FOUND if status in (404, 405) else ApiError(ErrorCode.BAD_REQUEST, "The request cannot be understood.")
    answer = error_response(known, request_id_of(request))
    if status == 405:
        answer.status_code = 405
        answer.headers["Allow"] = ", ".join(_methods_at(request))
    return answer


def _methods_at(request: Request) -> list[str]:
    """What the path takes: the framework names the methods of one route, and a path may have several."""
    here = [route for route in request.app.router.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in here if isinstance(route, GatedRoute) for method in route.methods or ()})


async def _validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return error_response(invalid(error), request_id_of(request))
