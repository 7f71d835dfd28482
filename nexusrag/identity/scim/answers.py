"""What a SCIM answer looks like: its media type, its errors (RFC 7644, section 3.12), entity tags and addresses."""

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from fastapi import Response
from pydantic import BaseModel

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.envelope import Errors
from nexusrag.web.hosts import named_host

MEDIA_TYPE = "application/scim+json"
MESSAGES = "urn:ietf:params:scim:api:messages:2.0:"
CONFIGURATION = "urn:ietf:params:scim:schemas:core:2.0:"
PREFIX = "/v1/scim/v2"
ScimType = Literal[
    "invalidFilter", "tooMany", "uniqueness", "mutability", "invalidSyntax", "invalidPath", "noTarget", "invalidValue", "invalidVers",
    "sensitive",
]  # fmt: skip


class ScimError(BaseModel):
    """Every refusal of a SCIM route."""

    schemas: list[str]
    status: str
    scimType: ScimType | None = None  # noqa: N815  # as the RFC writes it
    detail: str


def answer(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def resource(document: Mapping[str, Any], version: int, location: str, status: int = 200) -> Response:
    """One resource with its entity tag, and its address where it is new."""
    return answer(document, status, {"ETag": tag_of(version), **({"Location": location} if status == 201 else {})})


def refusal(error: ApiError, request_id: str) -> Response:
    """The answer to a refused or failed request."""
    # What cannot be read as JSON, or has the wrong shape, is 422 elsewhere.
    malformed = error.status == 422
    status = 400 if malformed else error.status
    scim_type = "invalidSyntax" if malformed else (error.details or {}).get("scimType")
    body = {
        "schemas": [f"{MESSAGES}Error"],
        "status": str(status),
        **({"scimType": scim_type} if scim_type else {}),
        "detail": error.message,
    }
    headers = {**error.headers, "X-Request-Id": request_id, **({"WWW-Authenticate": "Bearer"} if status == 401 else {})}
    return answer(body, status, headers)


ERRORS = Errors(ScimError, MEDIA_TYPE, refusal)


def invalid(scim_type: ScimType, detail: str) -> ApiError:
    return ApiError(ErrorCode.SCIM_PAYLOAD_INVALID, detail, {"scimType": scim_type})


def taken(detail: str) -> ApiError:
    """Somebody has what must be unique."""
    return ApiError(ErrorCode.CONFLICT, detail, {"scimType": "uniqueness"})


def base_of(call: CallContext) -> str:
    """The address below which the resources stand, as the client wrote it."""
    if named_host(call.request.scope) is None:
        return PREFIX
    scheme = "https" if call.of(Settings).runtime.environment == "production" else call.request.scope["scheme"]
    return f"{scheme}://{call.request.headers['host']}{PREFIX}"


def tag_of(version: int) -> str:
    return f'W/"{version}"'


def demand_match(call: CallContext, version: int) -> None:
    """Refuse what was meant for another version of the resource (If-Match). Raises PRECONDITION_FAILED."""
    given = _tags(call, "if-match")
    if given and "*" not in given and str(version) not in given:
        raise ApiError(ErrorCode.PRECONDITION_FAILED, "The resource has changed since you read it; read it again.")


def is_known(call: CallContext, version: int) -> bool:
    """Whether the client holds this version already (If-None-Match)."""
    given = _tags(call, "if-none-match")
    return "*" in given or str(version) in given


def _tags(call: CallContext, header: str) -> set[str]:
    given = ",".join(call.request.headers.getlist(header)).split(",")
    return {tag.strip().removeprefix("W/").strip('"') for tag in given} - {""}
