"""What each plan route demands. Every admin reads their own tenant's plan; only operators of the platform change one, anybody's."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

LIST = gate(Action.PLANS_READ)
READ = gate(Action.PLANS_READ, reach="operators")
ASSIGN = gate(Action.PLANS_ASSIGN, operator=True, reach="operators", audit=EventType.PLAN_ASSIGNED)
OVERRIDE = gate(Action.PLANS_ASSIGN, operator=True, reach="operators", audit=EventType.PLAN_FEATURE_OVERRIDDEN)
OWN = gate(Action.PLANS_READ, audit=EventType.SELFSERVE_PLAN_VIEWED)
REQUEST = gate(Action.PLANS_REQUEST, audit=EventType.PLAN_UPGRADE_REQUESTED)
