"""The role stage."""

from nexusrag.kernel.actions import LEAST_ROLE
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage


async def check_role(call: CallContext) -> None:
    """Refuse a caller whose role is below the action's least role."""
    action = call.gate.action
    if action is None:
        return
    least = LEAST_ROLE[action]
    if call.principal.role.rank < least.rank:
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, f"This needs the role {least.value}.", {"required_role": least.value})


def _needed(gate: Gate, method: str) -> bool:
    return gate.action is not None


STAGE = Stage("role", check_role, _needed)
