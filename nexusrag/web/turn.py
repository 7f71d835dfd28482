"""The stage at which a request waits for its turn: after it has been admitted, and before it holds anything that others need."""

from nexusrag.infra.turns import TURN_KEY, Turn, Turns
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage


async def take_turn(call: CallContext) -> None:
    """Let others go first, where the request's tenant is ahead of its rate."""
    turn: Turn | None = call.request.scope.get(TURN_KEY)
    if turn is not None:
        await call.of(Turns).begin(turn, call.principal.tenant_id, is_ahead=call.admission.is_ahead)


def _has_caller(gate: Gate, method: str) -> bool:
    return not gate.is_public


STAGE = Stage("turn", take_turn, _has_caller)
