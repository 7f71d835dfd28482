"""The role stage."""

from nexusrag.access.roles.operators import is_operator
from nexusrag.kernel.actions import LEAST_ROLE
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage


async def check_role(call: CallContext) -> None:
    """Refuse a caller whose role has not the action."""
    action = call.gate.action
    if action is None:
        return
    if not call.principal.may(action):
        least = LEAST_ROLE[action].value
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, f"This needs the role {least}, or one with the action {action}.", {"required_role": least})
    if call.gate.operator and not is_operator(call.principal, call.of(Settings)):
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, "This is for operators of the platform.", {"required_role": "operator"})


def _needed(gate: Gate, method: str) -> bool:
    return gate.action is not None


STAGE = Stage("role", check_role, _needed)
