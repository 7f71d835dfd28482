"""What operators' actions demand: an Idempotency-Key, and no plan, quota or freeze may stand in their way."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import Gate, gate


def _act(audit: EventType) -> Gate:
    return gate(Action.OPS_ACT, operator=True, reach="operators", audit=audit, keyed=True, despite_freeze=True, units=0)


ACT = _act(EventType.OPS_ACTED)
FREEZE = _act(EventType.WRITE_FREEZE_TOGGLED)
