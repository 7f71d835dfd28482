"""What the routes of policies demand."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

LIST = gate(Action.POLICIES_READ)
READ = gate(Action.POLICIES_READ, Resource.POLICY)
CREATE = gate(Action.POLICIES_MANAGE, audit=EventType.POLICY_CREATED)
UPDATE = gate(Action.POLICIES_MANAGE, Resource.POLICY, audit=EventType.POLICY_UPDATED)
DELETE = gate(Action.POLICIES_MANAGE, Resource.POLICY, audit=EventType.POLICY_DELETED)
ENABLE = gate(Action.POLICIES_MANAGE, Resource.POLICY, audit=EventType.POLICY_ENABLED)
DISABLE = gate(Action.POLICIES_MANAGE, Resource.POLICY, audit=EventType.POLICY_DISABLED)
SIMULATE = gate(Action.POLICIES_SIMULATE, Resource.POLICY, audit=EventType.SIMULATION_RUN, idempotent=False, despite_freeze=True)
