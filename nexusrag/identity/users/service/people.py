"""People: listed, given roles, switched off and on. What has no `call` is for whoever provisions them."""

from typing import Any

from sqlalchemy.exc import IntegrityError

from nexusrag.access.roles.facade import Assigned, RoleChoice, bases, demand_within, resolved
from nexusrag.identity.credentials.facade import actions_of, end_sessions, revoke_keys
from nexusrag.identity.users import repository
from nexusrag.identity.users.models import User
from nexusrag.identity.users.schemas import UserAction, UserList, UserOut
from nexusrag.identity.users.service import role_changes
from nexusrag.infra.changes import PERSON, announce
from nexusrag.infra.database import Work
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Role
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.web.call import CallContext
from nexusrag.web.paging import newest_first


async def list_users(call: CallContext, *, limit: int, cursor: str | None) -> UserList:
    """One page of the tenant's people, newest first."""
    statement = repository.users(call.db)
    rows, page = await newest_first(call, statement, User, listing="admin/identity/users", limit=limit, cursor=cursor)
    stand_ins = await bases(call.db)
    return UserList(items=[UserOut.of(user, stand_ins) for (user,) in rows], page=page)


async def change_role(call: CallContext, user: User, choice: RoleChoice) -> UserAction:
    """Give the user another role of their own, or ask a second admin to where that is demanded.

    Raises VALIDATION_ERROR for an unknown role, AUTH_FORBIDDEN for one with actions that the caller lacks, CONFLICT when the
    tenant would be left without an admin.
    """
    work = call.db
    async with repository.an_admin_remains(work):
        await repository.renew(work, user)
        wanted = await resolved(work, choice.role, choice.custom_role)
        demand_within(call.principal, wanted.actions)
        held = await resolved(work, Role(user.role), user.custom_role_id)
        if (held.role, held.custom_role) == (wanted.role, wanted.custom_role):
            return UserAction.of(user, await bases(work))
        if role_changes.needs_second(call, held.actions, wanted.actions):
            return UserAction.of(user, await bases(work), await role_changes.request(call, wanted, user_id=user.id))
        await put_role(work, user, wanted)
    await call.announce(PERSON, f"{call.tenant_id}/{user.id}")
    call.also_record(
        EventType.IDENTITY_ROLE_CHANGED, user_id=user.id, **role_changes.named(held, "previous_"), **role_changes.named(wanted)
    )
    return UserAction.of(user, await bases(work))


async def switch(call: CallContext, user: User, *, on: bool) -> UserAction:
    """Enable or disable the user. Raises CONFLICT when no active admin would be left, AUTH_FORBIDDEN to enable who may more than the
    caller.
    """
    if await set_active(call.db, user, active=on):
        if on:
            demand_within(call.principal, await actions_of(call.db, user.id))
        await call.announce(PERSON, f"{call.tenant_id}/{user.id}")
        call.also_record(EventType.IDENTITY_USER_ENABLED if on else EventType.IDENTITY_USER_DISABLED, user_id=user.id)
    return UserAction.of(user, await bases(call.db))


async def put_role(work: Work, user: User, wanted: Assigned) -> None:
    """Give the user a role of their own; acts within a second. For those who stand inside `an_admin_remains`."""
    user.role, user.custom_role_id = wanted.role.value, wanted.custom_role
    user.version += 1
    await repository.close_role_change(work, user_id=user.id, group_id=None, now=clock.now())
    await announce(work, PERSON, f"{work.tenant_id}/{user.id}")


async def set_active(work: Work, user: User, *, active: bool) -> bool:
    """Whether that changed anything. Whoever is disabled is logged out, and their keys are refused until they are enabled again."""
    async with repository.an_admin_remains(work):
        await repository.renew(work, user)
        if (user.status == "active") is active:
            return False
        user.status = "active" if active else "disabled"
        user.version += 1
        await _dropped(work, user)
    return True


async def add_user(work: Work, *, role: Role = Role.READER, **fields: Any) -> User:
    """A new person; `fields` are columns. Raises CONFLICT when the name under which they log in is taken."""
    user_id = new_id("usr")
    subject = fields.pop("external_subject", None) or user_id
    user = User(tenant_id=work.tenant_id, id=user_id, external_subject=subject, role=role.value, **fields)
    try:
        async with work.session.begin_nested():
            work.session.add(user)
    except IntegrityError as error:
        raise ApiError(ErrorCode.CONFLICT, "Someone of this name or address is there already.") from error
    return user


async def change_user(work: Work, user: User, **fields: Any) -> None:
    """Write columns of a person. Raises CONFLICT when the name under which they log in is taken."""
    try:
        async with work.session.begin_nested():
            for name, value in fields.items():
                setattr(user, name, value)
            user.version += 1
    except IntegrityError as error:
        raise ApiError(ErrorCode.CONFLICT, "Someone of this name or address is there already.") from error
    await announce(work, PERSON, f"{work.tenant_id}/{user.id}")


async def remove_user(work: Work, user: User) -> None:
    """Hide the person for good: their credentials die, their memberships end, what they wrote keeps their id."""
    async with repository.an_admin_remains(work):
        await repository.renew(work, user)
        user.status, user.deleted_at, user.custom_role_id = "disabled", clock.now(), None
        user.version += 1
        await repository.leave_groups(work, user.id)
        await repository.close_role_change(work, user_id=user.id, group_id=None, now=clock.now())
        await _dropped(work, user)
        await revoke_keys(work, user.id)


async def _dropped(work: Work, user: User) -> None:
    if user.status != "active":
        await work.flush()  # first the person: a login that is being made either is seen below, or sees this
        await end_sessions(work, user.id)
    await announce(work, PERSON, f"{work.tenant_id}/{user.id}")
