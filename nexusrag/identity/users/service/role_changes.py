"""Roles that wait for a second admin, where IDENTITY_DUAL_CONTROL_REQUIRED is set."""

from collections.abc import Set
from datetime import timedelta
from typing import Any

from nexusrag.access.roles.facade import Assigned, demand_within, hold, resolved
from nexusrag.identity.users import repository
from nexusrag.identity.users.models import RoleChange
from nexusrag.identity.users.schemas import RoleChangeList, RoleChangeOut
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Action, Role
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.paging import newest_first

_LIFE = timedelta(days=7)


def needs_second(call: CallContext, held: Set[Action], wanted: Set[Action]) -> bool:
    """Whether going from `held` to `wanted` raises somebody and so is not for one admin alone."""
    return call.of(Settings).identity.identity_dual_control_required and not wanted <= held


def named(assigned: Assigned, prefix: str = "") -> dict[str, Any]:
    """A role as events name it."""
    return {f"{prefix}role": assigned.role.value, f"{prefix}custom_role": assigned.custom_role}


async def request(call: CallContext, wanted: Assigned, *, user_id: str | None = None, group_id: str | None = None) -> RoleChangeOut:
    """Ask for a role, in place of an earlier request for the same person or group. The answer's status becomes 202."""
    now = clock.now()
    await repository.close_role_change(call.db, user_id=user_id, group_id=group_id, now=now)
    change = RoleChange(
        tenant_id=call.tenant_id,
        id=new_id("rch"),
        user_id=user_id,
        group_id=group_id,
        role=wanted.role.value,
        custom_role_id=wanted.custom_role,
        requested_by=call.principal.subject_id,
        created_at=now,
        expires_at=now + _LIFE,
    )
    call.session.add(change)
    await call.session.flush()
    call.status = 202
    call.also_record(EventType.IDENTITY_ROLE_CHANGE_REQUESTED, change_id=change.id, user_id=user_id, group_id=group_id, **named(wanted))
    return RoleChangeOut.of(change)


async def list_role_changes(call: CallContext, *, pending: bool, limit: int, cursor: str | None) -> RoleChangeList:
    """One page of requests, newest first."""
    statement = repository.role_changes(call.db, pending=pending)
    listing = f"admin/identity/role-changes/{pending}"
    rows, page = await newest_first(call, statement, RoleChange, listing=listing, limit=limit, cursor=cursor)
    return RoleChangeList(items=[RoleChangeOut.of(change) for (change,) in rows], page=page)


async def granted(call: CallContext, change: RoleChange) -> Assigned:
    """Decide for the request, as another admin than the one who asked. The caller gives the role that is returned.

    Raises CONFLICT for a request that is no longer open or whose role was redefined since, AUTH_FORBIDDEN for whoever may not decide.
    """
    await _demand_open(call, change)
    me = call.principal.subject_id
    concerned = me == change.user_id or (change.group_id is not None and await repository.is_member(call.db, change.group_id, me))
    if concerned or me == change.requested_by:
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, "A second admin decides: neither the one who asked, nor anyone whom it would raise.")
    custom = None if change.custom_role_id is None else await hold(call.db, change.custom_role_id)
    if change.custom_role_id is not None and (custom is None or custom.updated_at > change.created_at):
        raise ApiError(ErrorCode.CONFLICT, "The role was changed since it was asked for; ask again.")
    wanted = await resolved(call.db, Role(change.role), change.custom_role_id)
    demand_within(call.principal, wanted.actions)
    _decide(call, change, "approved")
    return wanted


async def reject(call: CallContext, change: RoleChange) -> RoleChangeOut:
    """Turn the request down; whoever asked may do so too. Raises CONFLICT when it is no longer open."""
    async with repository.an_admin_remains(call.db):
        await _demand_open(call, change)
        _decide(call, change, "rejected")
    call.also_record(EventType.IDENTITY_ROLE_CHANGE_REJECTED, change_id=change.id, user_id=change.user_id, group_id=change.group_id)
    return RoleChangeOut.of(change)


async def _demand_open(call: CallContext, change: RoleChange) -> None:
    await repository.renew(call.db, change)
    if change.status != "pending":
        raise ApiError(ErrorCode.CONFLICT, f"This request is {change.status}; nothing is left to decide.")


def _decide(call: CallContext, change: RoleChange, outcome: str) -> None:
    change.outcome, change.decided_by, change.decided_at = outcome, call.principal.subject_id, clock.now()
