"""Request ids: the client's when it is harmless, else a new one; the same id in headers, bodies, events, logs and audit."""

import re

from starlette.requests import HTTPConnection

from nexusrag.kernel.ids import new_id

_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = "nexusrag.request_id"


def request_id_of(request: HTTPConnection) -> str:
    """The id of this request; the first call decides it."""
    held: str | None = request.scope.get(_KEY)
    if held is None:
        held = request.scope[_KEY] = chosen_id(request.headers.get("x-request-id", ""))
    return held


def chosen_id(given: str) -> str:
    """The id that the client gave, or a new one."""
    return given if _HARMLESS.fullmatch(given) else new_id("req")
