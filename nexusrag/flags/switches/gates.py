"""What each route of switches demands. They hold for all tenants, so operators of the platform alone see and change them."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

READ = gate(Action.ROLLOUTS_READ, operator=True, reach="operators", units=0)
SWITCH = gate(Action.ROLLOUTS_MANAGE, operator=True, audit=EventType.KILL_SWITCH_CHANGED, despite_freeze=True, units=0)
ROLL_OUT = gate(Action.ROLLOUTS_MANAGE, operator=True, audit=EventType.CANARY_CHANGED, despite_freeze=True, units=0)
