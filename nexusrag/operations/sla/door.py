"""What is refused as soon as the head of a request is read: whoever comes too often, and what the process cannot keep up with."""

from functools import cache

from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from nexusrag.billing.admission.facade import Emptied
from nexusrag.identity.credentials.facade import peek
from nexusrag.infra.ids import chosen_id
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.ids import new_id
from nexusrag.operations.sla.overload import REFUSED, Overload, shed
from nexusrag.web.door import Door, Headers
from nexusrag.web.envelope import error_response

_SOMEBODY = new_id("req").encode()


def at_the_door(app: FastAPI) -> Door:
    """What the server asks before it makes anything of a request. Other forms of answers are left to those who stand further in."""
    state = app.state
    otherwise = tuple(state.errors)  # what begins so may have errors of another form

    def refuse(method: str, path: str, headers: Headers, seen: dict[bytes, bytes]) -> bytes | None:
        resources: Resources = state.resources
        overload, emptied = resources.get(Overload), resources.get(Emptied)
        if not (overload.is_pressed or emptied.any) or not path.startswith("/v1/") or path.startswith(otherwise):
            return None
        principal = peek(resources, headers, seen)
        if principal is None:
            return None
        error = emptied.refusal(principal, method, path) or shed(overload, principal, method, path)
        return None if error is None else _answer(error, headers)

    return Door(refuse, lambda: state.resources.get(Overload).refuses_many)


def _answer(error: ApiError, headers: Headers) -> bytes:
    given = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
    if error is REFUSED and not given:  # by the thousand, all alike but for their ids, which are equally long
        return _shed().replace(_SOMEBODY, new_id("req").encode())
    return _rendered(error, chosen_id(given))


@cache
def _shed() -> bytes:
    return _rendered(REFUSED, _SOMEBODY.decode())


def _rendered(error: ApiError, request_id: str) -> bytes:
    answer = error_response(error, request_id)
    lines = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
    return b"%b%b\r\n%b" % (STATUS_LINE[error.status], lines, bytes(answer.body))
