"""The tenant boundary: a request that names another tenant finds nothing there, unless an operator of the platform sends it."""

from nexusrag.access.roles.facade import is_operator
from nexusrag.identity.tenants import repository
from nexusrag.infra.database import Database
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.ids import is_tenant_id
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage


async def check_named(call: CallContext) -> None:
    """A foreign tenant id in path or query is not found."""
    named = {call.request.path_params.get("tenant_id"), *call.request.query_params.getlist("tenant_id")} - {None}
    if named <= {call.tenant_id}:
        return
    if call.gate.reach == "operators" and len(named) == 1 and is_operator(call.principal, call.of(Settings)):
        tenant_id = str(named.pop())
        async with call.of(Database).work(None) as work:
            known = is_tenant_id(tenant_id) and await repository.exists(work, tenant_id)
        if known:
            call.acting_in = tenant_id
            return
    raise not_found("tenant")


async def check_body(call: CallContext) -> None:
    """A foreign tenant id in a body is refused: nobody can write into another tenant by naming it."""
    if isinstance(call.body, dict) and call.body.get("tenant_id") not in (None, call.tenant_id):
        raise ApiError(ErrorCode.TENANT_ID_NOT_ALLOWED, "tenant_id must be left out or be your own.")


def _needed(gate: Gate, method: str) -> bool:
    return not gate.is_public


def _has_body(gate: Gate, method: str) -> bool:
    return not gate.is_public and method != "GET"


STAGE = Stage("tenant boundary", check_named, _needed)
BODY_STAGE = Stage("tenant boundary of the body", check_body, _has_body)
