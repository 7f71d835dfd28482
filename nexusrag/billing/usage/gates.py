"""What each usage route demands. Looking at one's use counts no units: a tenant at its cap must find out."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

READ = gate(Action.USAGE_READ, reach="operators", units=0)
OWN = gate(Action.USAGE_READ, audit=EventType.SELFSERVE_USAGE_VIEWED, units=0)
OWN_PLAN = gate(Action.PLANS_READ, audit=EventType.SELFSERVE_PLAN_VIEWED, units=0)
