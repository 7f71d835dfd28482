"""What the routes of service levels demand. Admins rule their own tenant's; operators of the platform may name any tenant."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.web.gate import gate

LIST = gate(Action.SLA_READ)
CREATE = gate(Action.SLA_MANAGE, audit=EventType.SLA_POLICY_CREATED)
UPDATE = gate(Action.SLA_MANAGE, Resource.SLA_POLICY, audit=EventType.SLA_POLICY_UPDATED)
ENABLE = gate(Action.SLA_MANAGE, Resource.SLA_POLICY, audit=EventType.SLA_POLICY_ENABLED)
DISABLE = gate(Action.SLA_MANAGE, Resource.SLA_POLICY, audit=EventType.SLA_POLICY_DISABLED)
ASSIGNMENT = gate(Action.SLA_READ, reach="operators")
ASSIGN = gate(Action.SLA_MANAGE, reach="operators", audit=EventType.SLA_ASSIGNMENT_UPDATED)
MEASUREMENTS = gate(Action.SLA_READ, reach="operators")
INCIDENTS = gate(Action.SLA_READ)
RESOLVE = gate(Action.SLA_MANAGE, Resource.SLA_INCIDENT, audit=EventType.SLA_INCIDENT_RESOLVED)
SLO = gate(Action.OPS_READ, feature=Feature.OPS_ADMIN_ACCESS, audit=EventType.OPS_VIEWED, units=0)
