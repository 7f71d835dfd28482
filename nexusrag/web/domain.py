"""The manifest of a domain: what it brings to the application, as data."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from nexusrag.infra.jobs import JobHandler
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Action, Resource
from nexusrag.web.call import CallContext
from nexusrag.web.router import Router

Loader = Callable[[CallContext, str], Awaitable[Any]]
Periodic = Callable[[Resources], Awaitable[None]]
Description = Callable[[CallContext, Any], dict[str, Any]]
Drain = Callable[[Resources], Awaitable[None]]
Opening = Callable[[Resources], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """Something that each worker does every `every_s` seconds; safe when several workers do it at once.

    `can_wait`: it is left out while operators have frozen writing.
    """

    name: str
    every_s: float
    run: Periodic
    can_wait: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Read by the application, the workers and the tests. `loaders` find a gate's resource or raise not found.

    `describes` say what policies may ask of a loaded resource, or of the one that an action is about to make in it.

    `opens` put what the domain keeps for the life of a process among the resources, in the order of the list of domains. `drains`
    end what clients are still waiting for when the server is told to stop; they have a few seconds before connections are cut.
    """

    name: str
    wing: str
    routers: tuple[Router, ...] = ()
    models: tuple[type[Any], ...] = ()
    loaders: Mapping[Resource, Loader] = field(default_factory=dict)
    describes: Mapping[Resource | Action, Description] = field(default_factory=dict)
    jobs: tuple[JobHandler, ...] = ()
    crons: tuple[Cron, ...] = ()
    opens: tuple[Opening, ...] = ()
    drains: tuple[Drain, ...] = ()


class Descriptions:
    """Those of all domains, by action or else by kind of resource. What none describes has its id."""

    def __init__(self, domains: Sequence[Domain]) -> None:
        # Which action each audit event is about, as the gates say.
        self.audited: Mapping[str, Action] = {
            route.gate.audit.value: route.gate.action
            for domain in domains
            for router in domain.routers
            for route in router.routes
            if route.gate.audit is not None and route.gate.action is not None
        }
        self._all = {key: describe for domain in domains for key, describe in domain.describes.items()}

    def of(self, call: CallContext) -> dict[str, Any]:
        """What policies may ask of what the call has loaded."""
        describe = self._all.get(call.gate.action) or self._all.get(call.gate.on)  # type: ignore[arg-type]  # None is no key
        return {"id": call.resource_id} if describe is None else describe(call, call.loaded)
