"""What the routes of maintenance demand. It acts on all tenants' rows, so operators of the platform alone begin it."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

RUN = gate(Action.MAINTENANCE_RUN, operator=True, audit=EventType.MAINTENANCE_RUN, units=0)
STATUS = gate(Action.MAINTENANCE_READ, units=0)
