"""What each plan route demands. Every admin reads their own tenant's plan; only operators of the platform change one, anybody's."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

LIST = gate(Action.PLANS_READ, units=0)
READ = gate(Action.PLANS_READ, reach="operators", units=0)
ASSIGN = gate(Action.PLANS_ASSIGN, operator=True, reach="operators", audit=EventType.PLAN_ASSIGNED, units=0)
OVERRIDE = gate(Action.PLANS_ASSIGN, operator=True, reach="operators", audit=EventType.PLAN_FEATURE_OVERRIDDEN, units=0)
REQUEST = gate(Action.PLANS_REQUEST, audit=EventType.PLAN_UPGRADE_REQUESTED, units=0)
