"""The bulkhead stage: a place for the request, given back when it is over unless a run takes it along."""

from nexusrag.infra.bulkheads import Bulkheads
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage


async def take_place(call: CallContext) -> None:
    """Refuse with SERVICE_BUSY when this process is full. A replay and a reader that comes back take no place."""
    resuming = call.gate.bulkhead == "run" and "last-event-id" in call.request.headers
    if call.gate.bulkhead is None or call.run_id is not None or resuming:
        return
    call.slot = call.of(Bulkheads)[call.gate.bulkhead].acquire(call.principal.tenant_id)
    call.on_leaving(call.release_slot)


def _needed(gate: Gate, method: str) -> bool:
    return gate.bulkhead is not None


STAGE = Stage("bulkhead", take_place, _needed)
