"""A request's turn: it waits for it once it may do what it asks for and has come as a whole, and before it holds what others need."""

from nexusrag.infra.turns import TURN_KEY, Turn, Turns
from nexusrag.kernel.traffic import RouteClass
from nexusrag.web.call import CallContext


async def take_turn(call: CallContext) -> None:
    """Let others go first, where the tenant is ahead of its rate. Operators who look at what is wrong do not wait."""
    await call.of(Turns).begin(turn_of(call), call.principal.tenant_id, how_far_ahead(call))


def turn_of(call: CallContext) -> Turn:
    """The request's own."""
    turn: Turn = call.request.scope[TURN_KEY]
    return turn


def how_far_ahead(call: CallContext) -> int:
    """As admission tells."""
    return 0 if call.admission is None or call.route_class is RouteClass.OPS else call.admission.ahead
