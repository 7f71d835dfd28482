"""What the routes of users, groups and changes of roles demand. What an event needs to say is added by the service."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

LIST = gate(Action.USERS_READ)
CHANGE = gate(Action.USERS_MANAGE, Resource.USER)
LIST_ROLE_CHANGES = gate(Action.USERS_READ)
DECIDE = gate(Action.USERS_MANAGE, Resource.ROLE_CHANGE)

LIST_GROUPS = gate(Action.GROUPS_READ)
LIST_MEMBERS = gate(Action.GROUPS_READ, Resource.GROUP)
CREATE_GROUP = gate(Action.GROUPS_MANAGE, audit=EventType.IDENTITY_GROUP_CREATED)
CHANGE_GROUP = gate(Action.GROUPS_MANAGE, Resource.GROUP)
DELETE_GROUP = gate(Action.GROUPS_MANAGE, Resource.GROUP, audit=EventType.IDENTITY_GROUP_DELETED)
CHANGE_MEMBERS = gate(Action.GROUPS_MANAGE, Resource.GROUP, audit=EventType.IDENTITY_GROUP_UPDATED)
