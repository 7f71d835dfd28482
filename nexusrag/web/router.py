"""Router: collects routes, each with its gate. A route without a gate cannot be declared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from nexusrag.web.envelope import ENVELOPED, Errors
from nexusrag.web.gate import Gate

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Declared:
    """One route as its author wrote it. `media_type` describes an answer that the handler builds itself: a stream, a file."""

    method: str
    path: str
    endpoint: Callable[..., Any]
    gate: Gate
    status_code: int
    tag: str
    media_type: str | None
    errors: Errors


class Router:
    """Routes of one domain under `/v1/<name>`."""

    def __init__(self, name: str, *, tag: str, errors: Errors = ENVELOPED) -> None:
        self.prefix = f"/v1/{name}".rstrip("/")
        self.tag = tag
        self.errors = errors
        self.routes: list[Declared] = []

    def get(self, path: str, *, gate: Gate, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._declare("GET", path, gate, **options)

    def post(self, path: str, *, gate: Gate, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._declare("POST", path, gate, **options)

    def put(self, path: str, *, gate: Gate, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._declare("PUT", path, gate, **options)

    def patch(self, path: str, *, gate: Gate, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._declare("PATCH", path, gate, **options)

    def delete(self, path: str, *, gate: Gate, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._declare("DELETE", path, gate, **options)

    def _declare(
        self,
        method: str,
        path: str,
        gate: Gate,
        *,
        status_code: int = 200,
        media_type: str | None = None,
    ) -> Callable[[Endpoint], Endpoint]:
        if not isinstance(gate, Gate):
            raise TypeError(f"{method} {self.prefix}{path} has no gate")

        def register(endpoint: Endpoint) -> Endpoint:
            self.routes.append(Declared(method, self.prefix + path, endpoint, gate, status_code, self.tag, media_type, self.errors))
            return endpoint

        return register
