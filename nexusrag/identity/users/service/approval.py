"""A second admin's yes, and what it brings about."""

from nexusrag.access.roles.facade import Assigned, resolved
from nexusrag.identity.users import repository
from nexusrag.identity.users.models import RoleChange
from nexusrag.identity.users.schemas import RoleChangeOut
from nexusrag.identity.users.service import role_changes
from nexusrag.identity.users.service.groups import put_mapping
from nexusrag.identity.users.service.people import put_role
from nexusrag.infra.changes import TENANT
from nexusrag.kernel.actions import Role
from nexusrag.kernel.errors import not_found
from nexusrag.kernel.events import EventType
from nexusrag.web.call import CallContext


async def approve(call: CallContext, change: RoleChange) -> RoleChangeOut:
    """Give the role that was asked for. Raises what `role_changes.granted` does, and NOT_FOUND when nobody is left to get it."""
    async with repository.an_admin_remains(call.db):
        wanted = await role_changes.granted(call, change)
        await call.db.flush()  # the request is decided before giving the role voids those that are open
        if change.user_id is not None:
            await _to_user(call, change.user_id, wanted, change)
        else:
            await _to_group(call, str(change.group_id), wanted, change)
    await call.announce(TENANT, call.tenant_id)
    return RoleChangeOut.of(change)


async def _to_user(call: CallContext, user_id: str, wanted: Assigned, change: RoleChange) -> None:
    user = await repository.find_user(call.db, user_id)
    if user is None:
        raise not_found("user")
    held = await resolved(call.db, Role(user.role), user.custom_role_id)
    await put_role(call.db, user, wanted)
    named = {**role_changes.named(held, "previous_"), **role_changes.named(wanted)}
    call.also_record(EventType.IDENTITY_ROLE_CHANGED, change_id=change.id, requested_by=change.requested_by, user_id=user.id, **named)


async def _to_group(call: CallContext, group_id: str, wanted: Assigned, change: RoleChange) -> None:
    group = await repository.find_group(call.db, group_id)
    if group is None:
        raise not_found("group")
    previous = group.role
    await put_mapping(call.db, group, wanted.role)
    call.also_record(
        EventType.IDENTITY_GROUP_MAPPED, change_id=change.id, requested_by=change.requested_by, group_id=group.id,
        previous_role=previous, role=wanted.role,
    )  # fmt: skip
