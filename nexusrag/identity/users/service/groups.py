"""Groups: who is in them, and what role they bring. What has no `call` is for whoever provisions them."""

from collections.abc import Collection, Set

from sqlalchemy.exc import IntegrityError

from nexusrag.access.roles.facade import Assigned, demand_within
from nexusrag.identity.users import repository
from nexusrag.identity.users.models import Group, User
from nexusrag.identity.users.schemas import GroupList, GroupOut, GroupPatch, MemberList, MemberOut
from nexusrag.identity.users.service import role_changes
from nexusrag.infra.changes import PERSON, TENANT, announce
from nexusrag.infra.database import Work
from nexusrag.kernel import clock
from nexusrag.kernel.actions import ACTIONS_OF, Action, Resource, Role
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.paging import newest_first

_MANY = 100


async def list_groups(call: CallContext, *, limit: int, cursor: str | None) -> GroupList:
    """One page of groups, newest first."""
    statement = repository.groups_with_size(call.db)
    rows, page = await newest_first(call, statement, Group, listing="admin/identity/groups", limit=limit, cursor=cursor)
    return GroupList(items=[GroupOut.of(group, size) for group, size in rows], page=page)


async def list_members(call: CallContext, group: Group, *, limit: int, cursor: str | None) -> MemberList:
    """One page of a group's people, the newest of the tenant first."""
    statement, listing = repository.members(call.db, group), f"admin/identity/groups/{group.id}"
    rows, page = await newest_first(call, statement, User, listing=listing, limit=limit, cursor=cursor)
    return MemberList(items=[MemberOut.model_validate(user, from_attributes=True) for (user,) in rows], page=page)


async def create(call: CallContext, display_name: str) -> GroupOut:
    """Raises CONFLICT when a group has this name."""
    group = await add_group(call.db, display_name)
    call.about(Resource.GROUP, group.id)
    return GroupOut.of(group, 0)


async def change(call: CallContext, group: Group, patch: GroupPatch) -> GroupOut:
    """Rename the group, or map it to another role, for which a second admin is asked where that is demanded.

    Raises AUTH_FORBIDDEN for a role with actions that the caller lacks, CONFLICT for a name that is taken or when the tenant
    would be left without an admin.
    """
    work, pending = call.db, None
    async with repository.an_admin_remains(work):  # before the name, too: else this and who adds members would wait for each other
        await repository.renew(work, group)
        if patch.display_name is not None:
            await rename_group(work, group, patch.display_name)
            call.also_record(EventType.IDENTITY_GROUP_UPDATED, changed=["display_name"])
        if "role" in patch.model_fields_set:
            demand_within(call.principal, _brought_by(patch.role))
            held = None if group.role is None else Role(group.role)
            if patch.role is not None and role_changes.needs_second(call, _brought_by(held), _brought_by(patch.role)):
                pending = await role_changes.request(call, Assigned(patch.role, None, ACTIONS_OF[patch.role]), group_id=group.id)
            elif patch.role is not held:
                await put_mapping(work, group, patch.role)
                call.also_record(EventType.IDENTITY_GROUP_MAPPED, previous_role=held, role=patch.role)
    await call.announce(TENANT, call.tenant_id)
    return GroupOut.of(group, await _size(work, group), pending)


async def put_members(call: CallContext, group: Group, user_ids: Collection[str]) -> GroupOut:
    """Put people into the group.

    Raises VALIDATION_ERROR when the tenant has not all of them, AUTH_FORBIDDEN when the group's role has actions that the caller
    lacks, CONFLICT for a group with a role where raising somebody needs a second admin.
    """
    work = call.db
    async with repository.an_admin_remains(work):
        await repository.renew(work, group)
        demand_within(call.principal, _brought_by(group.role))
        if group.role is not None and call.of(Settings).identity.identity_dual_control_required:
            raise ApiError(
                ErrorCode.CONFLICT, "Whoever joins this group gets its role without a second admin; ask for the role itself instead."
            )
        unknown = sorted(set(user_ids) - await repository.known_users(work, user_ids))
        if unknown:
            fault = {"field": "body.user_ids", "message": "this tenant has no such user", "type": "value_error"}
            raise ApiError(
                ErrorCode.VALIDATION_ERROR,
                f"body.user_ids: this tenant has no user {unknown[0]!r}",
                {"errors": [fault], "unknown": unknown},
            )
        added = await add_members(work, group, user_ids)
    await call.announce(TENANT, call.tenant_id)
    call.record(added=added)
    return GroupOut.of(group, await _size(work, group))


async def take_member(call: CallContext, group: Group, user_id: str) -> GroupOut:
    """Take someone out of the group. Raises NOT_FOUND when they are not in it, CONFLICT when no active admin would be left."""
    removed = await remove_members(call.db, group, [user_id])
    if not removed:
        raise not_found("member")
    await call.announce(PERSON, f"{call.tenant_id}/{user_id}")
    call.record(removed=removed)
    return GroupOut.of(group, await _size(call.db, group))


async def delete(call: CallContext, group: Group) -> None:
    """Raises CONFLICT when no active admin would be left."""
    await delete_group(call.db, group)
    await call.announce(TENANT, call.tenant_id)


async def add_group(work: Work, display_name: str, *, external_id: str | None = None) -> Group:
    """A new group without a role. Raises CONFLICT when a group has this name."""
    group = Group(tenant_id=work.tenant_id, id=new_id("grp"), display_name=display_name, external_id=external_id)
    try:
        async with work.session.begin_nested():
            work.session.add(group)
    except IntegrityError as error:
        raise _taken() from error
    return group


async def rename_group(work: Work, group: Group, display_name: str) -> None:
    """Raises CONFLICT when another group has this name."""
    try:
        async with work.session.begin_nested():
            group.display_name = display_name
            group.version += 1
    except IntegrityError as error:
        raise _taken() from error
    await announce(work, TENANT, str(work.tenant_id))  # callers are cached with the names of their groups


async def add_members(work: Work, group: Group, user_ids: Collection[str]) -> list[str]:
    """Put people of this tenant into the group; those who are new in it. Who was asked to raise the group was asked about others."""
    added = await repository.put_members(work, group, set(user_ids))
    if added:
        await repository.close_role_change(work, user_id=None, group_id=group.id, now=clock.now())
    await _changed(work, group, added)
    return added


async def remove_members(work: Work, group: Group, user_ids: Collection[str]) -> list[str]:
    """Take people out of the group; those who were in it. Raises CONFLICT when no active admin would be left."""
    async with repository.an_admin_remains(work):
        removed = await repository.take_members(work, group, set(user_ids))
        await _changed(work, group, removed)
    return removed


async def delete_group(work: Work, group: Group) -> None:
    """Raises CONFLICT when no active admin would be left, NOT_FOUND when somebody was faster."""
    async with repository.an_admin_remains(work):
        await repository.renew(work, group)
        await work.session.delete(group)
        await announce(work, TENANT, str(work.tenant_id))


async def put_mapping(work: Work, group: Group, role: Role | None) -> None:
    """Map the group to a role; acts within a second. For those who stand inside `an_admin_remains`."""
    group.role = None if role is None else role.value
    group.version += 1
    await repository.close_role_change(work, user_id=None, group_id=group.id, now=clock.now())
    await announce(work, TENANT, str(work.tenant_id))


async def _changed(work: Work, group: Group, user_ids: list[str]) -> None:
    if user_ids:
        group.version += 1
        if len(user_ids) > _MANY:  # each announcement makes every process look through its callers
            await announce(work, TENANT, str(work.tenant_id))
            return
        await announce(work, PERSON, *(f"{work.tenant_id}/{user_id}" for user_id in user_ids))


async def _size(work: Work, group: Group) -> int:
    await work.flush()
    row = (await work.session.execute(repository.groups_with_size(work).where(Group.id == group.id))).one()
    return int(row[1])


def _brought_by(role: str | None) -> Set[Action]:
    return frozenset() if role is None else ACTIONS_OF[Role(role)]


def _taken() -> ApiError:
    return ApiError(ErrorCode.CONFLICT, "A group has this name.")
