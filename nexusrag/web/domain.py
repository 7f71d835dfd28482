"""The manifest of a domain: what it brings to the application, as data."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from nexusrag.infra.jobs import JobHandler
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Resource
from nexusrag.web.call import CallContext
from nexusrag.web.router import Router

Loader = Callable[[CallContext, str], Awaitable[Any]]
Periodic = Callable[[Resources], Awaitable[None]]
Opening = Callable[[Resources], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """Something that each worker does every `every_s` seconds; safe when several workers do it at once."""

    name: str
    every_s: float
    run: Periodic


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Read by the application, the workers and the tests. `loaders` find a gate's resource or raise not found.

    `opens` put what the domain keeps for the life of a process among the resources, in the order of the list of domains.
    """

    name: str
    wing: str
    routers: tuple[Router, ...] = ()
    models: tuple[type[Any], ...] = ()
    loaders: Mapping[Resource, Loader] = field(default_factory=dict)
    jobs: tuple[JobHandler, ...] = ()
    crons: tuple[Cron, ...] = ()
    opens: tuple[Opening, ...] = ()
