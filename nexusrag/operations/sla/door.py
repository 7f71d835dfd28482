"""What is refused as soon as the head of a request is read: whoever comes too often, and what the process cannot keep up with."""

from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from nexusrag.billing.admission.facade import Emptied
from nexusrag.identity.credentials.facade import peek
from nexusrag.infra.ids import chosen_id
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError
from nexusrag.operations.sla.overload import Overload, shed
from nexusrag.web.envelope import ENVELOPED, error_response, errors_below
from nexusrag.web.server import Headers, Refuse


def at_the_door(app: FastAPI) -> Refuse:
    """What the server asks before it makes anything of a request. Other forms of answers are left to those who stand further in."""
    state = app.state

    def refuse(method: str, path: str, headers: Headers) -> bytes | None:
        resources: Resources = state.resources
        overload, emptied = resources.get(Overload), resources.get(Emptied)
        if not (overload.is_pressed or emptied.any) or not path.startswith("/v1/") or errors_below(state.errors, path) is not ENVELOPED:
            return None
        principal = peek(resources, headers)
        if principal is None:
            return None
        error = emptied.refusal(principal, method, path) or shed(overload, principal, method, path)
        return None if error is None else _answer(error, headers)

    return refuse


def _answer(error: ApiError, headers: Headers) -> bytes:
    request_id = chosen_id(next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), ""))
    answer = error_response(error, request_id)
    lines = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
    return b"%b%b\r\n%b" % (STATUS_LINE[error.status], lines, bytes(answer.body))
