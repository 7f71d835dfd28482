"""What each route of model slots demands. They belong to the platform, not to a tenant; a tenant at its quota may still look."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.kernel.traffic import RouteClass
from nexusrag.web.gate import gate

READ = gate(Action.OPS_READ, operator=True, reach="operators", rate=RouteClass.OPS, units=0)
RESET = gate(
    Action.OPS_ACT, operator=True, reach="operators", rate=RouteClass.OPS, units=0, audit=EventType.OPS_SLOTS_RESET, despite_freeze=True
)
