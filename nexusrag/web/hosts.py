"""Host headers: how one is read, and which are answered (ALLOWED_HOSTS). Anything else is refused before a route is looked for."""

import re
from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from nexusrag.infra.ids import request_id_of
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.web.envelope import Errors, errors_below

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
_REFUSED = ApiError(ErrorCode.BAD_REQUEST, "This host is not served here; ALLOWED_HOSTS names those that are.")


def named_host(scope: Scope) -> str | None:
    """The host that a request names, in lower case and without its port; None when it names none, several or an impossible one."""
    given = Headers(scope=scope).getlist("host")
    match = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return None if match is None else match[1].lower()


class AllowedHosts:
    """Middleware that answers the given hosts alone; `*.example.org` stands for every host below example.org."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str], errors: Mapping[str, Errors]) -> None:
        self._app = app
        self._errors = errors
        self._hosts = frozenset(host.lower() for host in hosts)
        self._domains = tuple(host[1:] for host in self._hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._serves(named_host(scope)):
            refusal = errors_below(self._errors, scope["path"]).answer(_REFUSED, request_id_of(HTTPConnection(scope)))
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _serves(self, host: str | None) -> bool:
        return host is not None and (host in self._hosts or host.endswith(self._domains))
