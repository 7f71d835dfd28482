"""What the posture route demands."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.web.gate import gate

READ = gate(Action.OPS_READ, feature=Feature.OPS_ADMIN_ACCESS, audit=EventType.OPS_VIEWED, units=0)
