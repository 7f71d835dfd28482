"""Use cases of model slots."""

from nexusrag.inference.slots.schemas import SlotsOut, SlotsResetOut
from nexusrag.inference.slots.slots import ModelSlots
from nexusrag.web.call import CallContext


async def look(call: CallContext) -> SlotsOut:
    """Who has places and who waits."""
    slots = call.of(ModelSlots)
    return SlotsOut.of(slots.total, await slots.look())


async def reset(call: CallContext) -> SlotsResetOut:
    """Free every place. Raises SERVICE_UNAVAILABLE when Redis is away."""
    freed = await call.of(ModelSlots).reset()
    call.record(freed=freed)
    return SlotsResetOut(**(await look(call)).model_dump(), freed=freed)
