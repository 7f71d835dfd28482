"""Classes of routes, by which traffic is limited and measured."""

from enum import StrEnum


class RouteClass(StrEnum):
    RUN = "run"
    MUTATION = "mutation"
    READ = "read"
    OPS = "ops"


_OPS = ("/ops", "/audit/events")
_BELOW_OPS = tuple(f"{start}/" for start in _OPS)


def class_of(method: str, path: str) -> RouteClass:
    """The class of a route by its method and path, with or without the version. A gate may name another."""
    bare = path.removeprefix("/v1")
    if bare in _OPS or bare.startswith(_BELOW_OPS):
        return RouteClass.OPS
    return RouteClass.READ if method in ("GET", "HEAD", "OPTIONS") else RouteClass.MUTATION
