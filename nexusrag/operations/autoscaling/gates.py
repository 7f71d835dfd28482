"""What the routes of autoscaling demand. Replicas are everybody's: only operators of the platform change how many there are."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

LIST = gate(Action.AUTOSCALING_READ)
CREATE = gate(Action.AUTOSCALING_MANAGE, audit=EventType.SLA_AUTOSCALING_PROFILE_CREATED)
UPDATE = gate(Action.AUTOSCALING_MANAGE, Resource.AUTOSCALING_PROFILE, audit=EventType.SLA_AUTOSCALING_PROFILE_UPDATED)
EVALUATE = gate(
    Action.AUTOSCALING_READ, Resource.AUTOSCALING_PROFILE, at="body", audit=EventType.SLA_AUTOSCALING_RECOMMENDED, despite_freeze=True
)
APPLY = gate(
    Action.AUTOSCALING_MANAGE, Resource.AUTOSCALING_PROFILE, at="body", operator=True, audit=EventType.SLA_AUTOSCALING_APPLIED
)  # fmt: skip
ACTIONS = gate(Action.AUTOSCALING_READ)
