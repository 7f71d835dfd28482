"""Completes the OpenAPI document with what only a route's gate knows: credential, role, Idempotency-Key, path parameters, refusals."""

import re
from collections.abc import Iterable
from typing import Any

from nexusrag.kernel.actions import LEAST_ROLE
from nexusrag.kernel.errors import STATUS, ErrorCode
from nexusrag.kernel.principal import Credential
from nexusrag.kernel.traffic import RouteClass
from nexusrag.web import idempotency
from nexusrag.web.gate import Gate
from nexusrag.web.route import GatedRoute
from nexusrag.web.router import Declared

DESCRIPTION = (
    "Answers are `{data, meta}`, failures `{error, meta}` with a code of a closed catalogue; streams, files and metrics are bare. "
    "Every answer carries `X-Request-Id`. A route's least role stands with its security requirement."
)
_KEY, _SCIM = "key", "scim"
_IDEMPOTENCY_KEY = {
    "name": idempotency.HEADER,
    "in": "header",
    "required": False,
    "description": "Repeating a request with its key has no second effect and gets the stored answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: {
        "Retry-After": {"description": "seconds", "schema": {"type": "integer"}},
        "X-RateLimit-Scope": {
            "description": "what refused: api_key, session, scim, tenant, tenant_concurrency or address",
            "schema": {"type": "string"},
        },
        "X-RateLimit-Route-Class": {"schema": {"type": "string"}},
        "X-RateLimit-Retry-After-Ms": {"schema": {"type": "integer"}},
    },
    503: {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}},
}
_REPLAYED = {idempotency.REPLAYED: {"description": "`true` on a stored answer", "schema": {"type": "string"}}}


def responses(declared: Declared) -> dict[int | str, dict[str, Any]]:
    """What the framework is told about answers: the kind of those without a model, and the shape of whatever a handler refuses with."""
    bare: dict[int | str, dict[str, Any]] = {declared.status_code: {"content": {declared.media_type: {}}}} if declared.media_type else {}
    return {**bare, "4XX": {"model": declared.errors.model}, "5XX": {"model": declared.errors.model}}


def complete(document: dict[str, Any], routes: Iterable[GatedRoute], key_header: str) -> dict[str, Any]:
    """`document`, completed in place. `key_header` is the setting AUTH_API_KEY_HEADER."""
    shown = [route for route in routes if route.include_in_schema]
    for route in shown:
        for method in route.methods or ():
            _complete(document["paths"][route.path_format][method.lower()], route, method)
    document["components"]["securitySchemes"] = {_KEY: _scheme(key_header)}
    if any(Credential.SCIM in route.gate.credentials for route in shown):
        about = "The token of a provisioning client."
        document["components"]["securitySchemes"][_SCIM] = {"type": "http", "scheme": "bearer", "description": about}
    return document


def _complete(operation: dict[str, Any], route: GatedRoute, method: str) -> None:
    gate = route.gate
    operation["security"] = _security(gate)
    parameters = operation.setdefault("parameters", [])
    known = {parameter["name"] for parameter in parameters}
    # The handler does not name what the gate reads, so the framework does not describe it.
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path_format)
        if name not in known
    ]
    keyed = idempotency.STAGE.applies(gate, method)
    checked = bool(known) or "requestBody" in operation
    if keyed:
        parameters.append({**_IDEMPOTENCY_KEY, "required": gate.keyed})
        operation["responses"][str(route.status_code)]["headers"] = _REPLAYED
    refused = {route.errors.media_type: {"schema": {"$ref": f"#/components/schemas/{route.errors.model.__name__}"}}}
    frozen = method != "GET" and not gate.despite_freeze
    for status, codes in _refusals(route, frozen=frozen, keyed=keyed, body="requestBody" in operation, checked=checked).items():
        operation["responses"][str(status)] = {
            "description": ", ".join(codes),
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
    for status, told in operation["responses"].items():
        if status[0] in "45":
            told["content"] = refused
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _security(gate: Gate) -> list[dict[str, list[str]]]:
    if gate.action is None:
        return []
    if Credential.SCIM in gate.credentials:
        return [{_SCIM: []}]
    return [{_KEY: [LEAST_ROLE[gate.action].value, *(["operator"] if gate.operator else [])]}]


def _refusals(route: GatedRoute, *, frozen: bool, keyed: bool, body: bool, checked: bool) -> dict[int, list[str]]:
    """Codes by status that come from the way to the handler; `checked`: there are parameters or a body to be wrong.

    `frozen`: refused while nothing is written.
    """
    gate, code = route.gate, ErrorCode
    codes = [code.BAD_REQUEST]
    if Credential.SCIM in gate.credentials:
        codes += [code.SCIM_PAYLOAD_INVALID, code.SCIM_UNAUTHORIZED]
    elif gate.action is not None:
        codes += [code.AUTH_UNAUTHORIZED, code.AUTH_REVOKED_KEY, code.AUTH_EXPIRED_KEY, code.AUTH_INACTIVE_KEY, code.AUTH_FORBIDDEN]
    codes += [code.RATE_LIMITED] if not gate.probed else []
    spared = gate.probed or route.route_class is RouteClass.OPS or not (gate.transaction or gate.is_public)
    codes += [code.RATE_LIMIT_UNAVAILABLE] if not spared else []
    codes += [code.QUOTA_EXCEEDED] if gate.transaction and gate.units else []
    codes += [code.FEATURE_NOT_ENABLED] if gate.feature is not None else []
    codes += [code.NOT_FOUND] if gate.on is not None or gate.reach == "operators" else []
    codes += [code.AUTHZ_DENIED] if gate.permission is not None else []
    codes += [code.IDEMPOTENCY_KEY_INVALID, code.IDEMPOTENCY_KEY_CONFLICT, code.IDEMPOTENCY_IN_PROGRESS] if keyed else []
    codes += [code.PAYLOAD_TOO_LARGE, code.UNSUPPORTED_MEDIA_TYPE] if body else []
    codes += [code.VALIDATION_ERROR] if checked else []
    codes += [code.TENANT_ID_NOT_ALLOWED] if body and gate.action is not None else []
    codes += [code.IDEMPOTENCY_KEY_REQUIRED] if gate.keyed else []
    codes += [code.WRITE_FROZEN] if frozen else []
    codes += [code.FEATURE_TEMPORARILY_DISABLED] if gate.switch is not None else []
    codes += [code.SERVICE_BUSY] if gate.bulkhead is not None else []
    codes += [code.SERVICE_UNAVAILABLE] if gate.transaction else []
    by_status: dict[int, list[str]] = {}
    for one in codes:
        # SCIM knows no 422: what is malformed is 400.
        status = 400 if Credential.SCIM in gate.credentials and STATUS[one] == 422 else STATUS[one]
        by_status.setdefault(status, []).append(one.value)
    return by_status


def _scheme(key_header: str) -> dict[str, str]:
    about = "An API key of one tenant, or the token of a person who has signed in."
    if key_header.lower() == "authorization":
        return {"type": "http", "scheme": "bearer", "bearerFormat": "nrag_api_…", "description": about}
    return {"type": "apiKey", "in": "header", "name": key_header, "description": about}
