"""Classes of routes, by which traffic is limited and measured."""

from enum import StrEnum


class RouteClass(StrEnum):
    RUN = "run"
    MUTATION = "mutation"
    READ = "read"
    OPS = "ops"


_OPS = ("/ops", "/audit/events")


def class_of(method: str, path: str) -> RouteClass:
    """The class of a route by its method and path, with or without the version. A gate may name another."""
    bare = path.removeprefix("/v1")
    if any(bare == start or bare.startswith(f"{start}/") for start in _OPS):
        return RouteClass.OPS
    return RouteClass.READ if method in ("GET", "HEAD", "OPTIONS") else RouteClass.MUTATION
