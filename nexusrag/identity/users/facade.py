"""What other domains may ask of users: whoever provisions people and groups writes them through here."""

from nexusrag.identity.users.models import Group, GroupMember, User
from nexusrag.identity.users.repository import an_admin_remains, find_group, find_user, known_users, renew
from nexusrag.identity.users.service.groups import add_group, add_members, delete_group, remove_members, rename_group
from nexusrag.identity.users.service.people import add_user, change_user, put_role, remove_user, set_active

__all__ = [
    "Group",
    "GroupMember",
    "User",
    "add_group",
    "add_members",
    "add_user",
    "an_admin_remains",
    "change_user",
    "delete_group",
    "find_group",
    "find_user",
    "known_users",
    "put_role",
    "remove_members",
    "remove_user",
    "rename_group",
    "renew",
    "set_active",
]
