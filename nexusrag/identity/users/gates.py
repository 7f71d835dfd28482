"""What the routes of users, groups and changes of roles demand. What an event needs to say is added by the service.

Finding a user and disabling them count no units, so that it can be done by a tenant that has used its own.
"""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

LIST = gate(Action.USERS_READ, units=0)
CHANGE = gate(Action.USERS_MANAGE, Resource.USER, units=0)
LIST_ROLE_CHANGES = gate(Action.USERS_READ)
DECIDE = gate(Action.USERS_MANAGE, Resource.ROLE_CHANGE)

LIST_GROUPS = gate(Action.GROUPS_READ)
LIST_MEMBERS = gate(Action.GROUPS_READ, Resource.GROUP)
CREATE_GROUP = gate(Action.GROUPS_MANAGE, audit=EventType.IDENTITY_GROUP_CREATED)
CHANGE_GROUP = gate(Action.GROUPS_MANAGE, Resource.GROUP)
DELETE_GROUP = gate(Action.GROUPS_MANAGE, Resource.GROUP, audit=EventType.IDENTITY_GROUP_DELETED)
CHANGE_MEMBERS = gate(Action.GROUPS_MANAGE, Resource.GROUP, audit=EventType.IDENTITY_GROUP_UPDATED)
