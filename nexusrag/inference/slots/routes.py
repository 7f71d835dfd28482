"""HTTP face of model slots: /v1/admin/slots."""

from nexusrag.inference.slots import gates, service
from nexusrag.inference.slots.schemas import SlotsOut, SlotsResetOut
from nexusrag.web.call import Call
from nexusrag.web.router import Router

router = Router("admin/slots", tag="Operations")


@router.get("", gate=gates.READ)
async def get_slots(call: Call) -> SlotsOut:
    """How many calls of the language model are under way in all processes, how many may be, and who waits. For operators."""
    return await service.look(call)


@router.post("/reset", gate=gates.RESET)
async def reset_slots(call: Call) -> SlotsResetOut:
    """Free every place. Places of dead processes come back by themselves within ten seconds, so this is a last resort.

    Calls under way go on and count again within two seconds; until then more than the limit may run. For operators.
    """
    return await service.reset(call)
