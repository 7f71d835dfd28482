"""Buckets that were found empty, until they have a token again: who comes too often is refused from memory, before Redis is asked.

Nobody gives rate tokens back, so that an empty bucket stays empty for as long as Redis said. A bucket's name is not known before a route
is found: what is remembered is whose it is, and what was asked for.
"""

from collections import OrderedDict
from math import ceil
from time import monotonic
from typing import NamedTuple

from nexusrag.infra.metrics import ADMISSION_REFUSALS
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.principal import Principal
from nexusrag.kernel.traffic import RouteClass

# Beyond this the oldest are forgotten, and Redis is asked about them.
_MOST = 10_000


class _Empty(NamedTuple):
    until: float
    scope: str
    route_class: RouteClass


class Emptied:
    """What this process remembers of empty buckets."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, str, str], _Empty] = OrderedDict()
        self._last = 0.0  # when the last of them has a token again

    def note(self, principal: Principal, method: str, path: str, route_class: RouteClass, scope: str, wait_ms: int) -> None:
        """Redis has refused this for so long; `scope` is `tenant`, or else the caller's own bucket is empty."""
        until = monotonic() + wait_ms / 1000
        whose = principal.tenant_id if scope == "tenant" else principal.credential_id
        self._held[whose, method, path] = _Empty(until, scope, route_class)
        self._held.move_to_end((whose, method, path))
        self._last = max(self._last, until)
        if len(self._held) > _MOST:
            self._held.popitem(last=False)

    @property
    def any(self) -> bool:
        """Whether some bucket may be empty still: mostly none is, and nobody needs to be looked up."""
        if self._held and self._last <= monotonic():
            self._held.clear()
        return bool(self._held)

    def refusal(self, principal: Principal, method: str, path: str) -> ApiError | None:
        """The refusal of what is refused still."""
        for whose in (principal.credential_id, principal.tenant_id):
            held = self._held.get((whose, method, path))
            if held is not None and (left := held.until - monotonic()) > 0:
                return rate_limited(held.route_class, held.scope, ceil(left * 1000))
        return None


def rate_limited(route_class: RouteClass, scope: str, wait_ms: int) -> ApiError:
    """The refusal of whoever comes too often."""
    ADMISSION_REFUSALS.labels(scope, route_class.value).inc()
    return ApiError(
        ErrorCode.RATE_LIMITED,
        "Rate limit exceeded",
        {"scope": scope, "route_class": route_class.value, "retry_after_ms": wait_ms},
        headers={
            "Retry-After": str(max(1, ceil(wait_ms / 1000))),
            "X-RateLimit-Scope": scope,
            "X-RateLimit-Route-Class": route_class.value,
            "X-RateLimit-Retry-After-Ms": str(wait_ms),
        },
    )
