"""What each route of roles demands."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

LIST = gate(Action.ROLES_READ)
DEFINE = gate(Action.ROLES_MANAGE, audit=EventType.ROLE_DEFINED)
CHANGE = gate(Action.ROLES_MANAGE, Resource.ROLE, audit=EventType.ROLE_DEFINED)
DELETE = gate(Action.ROLES_MANAGE, Resource.ROLE, audit=EventType.ROLE_DELETED)
