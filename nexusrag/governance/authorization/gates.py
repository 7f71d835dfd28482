"""What the routes of this domain demand."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

EXPLAIN = gate(Action.AUTHZ_EXPLAIN, audit=EventType.POLICY_EVALUATED)
IMPACT = gate(Action.POLICIES_SIMULATE, Resource.POLICY, audit=EventType.IMPACT_RUN, idempotent=False, despite_freeze=True)
