"""HTTP face of users and groups: /v1/admin/identity/users, …/groups and …/role-changes."""

from typing import Annotated, Literal

from fastapi import Query

from nexusrag.access.roles.facade import RoleChoice
from nexusrag.identity.users import gates
from nexusrag.identity.users.models import Group, RoleChange, User
from nexusrag.identity.users.schemas import (
    GroupCreate,
    GroupList,
    GroupOut,
    GroupPatch,
    MemberList,
    MembersIn,
    RoleChangeList,
    RoleChangeOut,
    UserAction,
    UserList,
)
from nexusrag.identity.users.service import approval, groups, people, role_changes
from nexusrag.web.call import Call, Loaded
from nexusrag.web.paging import LARGEST
from nexusrag.web.router import Router

router = Router("admin/identity", tag="Identity")
_Limit = Annotated[int, Query(ge=1, le=LARGEST)]


@router.get("/users", gate=gates.LIST)
async def list_users(call: Call, limit: _Limit = LARGEST, cursor: str | None = None) -> UserList:
    """List the tenant's users, newest first."""
    return await people.list_users(call, limit=limit, cursor=cursor)


@router.patch("/users/{user_id}/role", gate=gates.CHANGE)
async def change_role(call: Call, user: Loaded[User], body: RoleChoice) -> UserAction:
    """Give a user another role. Under dual control a higher one is 202: `pending` names the request that a second admin decides."""
    return await people.change_role(call, user, body)


@router.post("/users/{user_id}/enable", gate=gates.CHANGE)
async def enable_user(call: Call, user: Loaded[User]) -> UserAction:
    """Enable a user: their keys work again; they log in anew."""
    return await people.switch(call, user, on=True)


@router.post("/users/{user_id}/disable", gate=gates.CHANGE)
async def disable_user(call: Call, user: Loaded[User]) -> UserAction:
    """Disable a user: within a second none of their credentials is accepted anywhere. The last active admin stays."""
    return await people.switch(call, user, on=False)


@router.get("/role-changes", gate=gates.LIST_ROLE_CHANGES)
async def list_role_changes(
    call: Call, status: Literal["pending", "all"] = "pending", limit: _Limit = 100, cursor: str | None = None
) -> RoleChangeList:
    """List requests for a higher role, newest first."""
    return await role_changes.list_role_changes(call, pending=status == "pending", limit=limit, cursor=cursor)


@router.post("/role-changes/{role_change_id}/approve", gate=gates.DECIDE)
async def approve_role_change(call: Call, change: Loaded[RoleChange]) -> RoleChangeOut:
    """Give the role that was asked for, as an admin who neither asked nor is raised by it."""
    return await approval.approve(call, change)


@router.post("/role-changes/{role_change_id}/reject", gate=gates.DECIDE)
async def reject_role_change(call: Call, change: Loaded[RoleChange]) -> RoleChangeOut:
    """Turn a request down, or withdraw one's own."""
    return await role_changes.reject(call, change)


@router.get("/groups", gate=gates.LIST_GROUPS)
async def list_groups(call: Call, limit: _Limit = 100, cursor: str | None = None) -> GroupList:
    """List the tenant's groups, newest first, each with its role and the number of its members."""
    return await groups.list_groups(call, limit=limit, cursor=cursor)


@router.post("/groups", gate=gates.CREATE_GROUP, status_code=201)
async def create_group(call: Call, body: GroupCreate) -> GroupOut:
    """Make a group. It brings no role until it is mapped to one."""
    return await groups.create(call, body.display_name)


@router.patch("/groups/{group_id}", gate=gates.CHANGE_GROUP)
async def change_group(call: Call, group: Loaded[Group], body: GroupPatch) -> GroupOut:
    """Rename a group, or map it to a role that its members get beside their own. Under dual control a higher one is 202."""
    return await groups.change(call, group, body)


@router.delete("/groups/{group_id}", gate=gates.DELETE_GROUP, status_code=204)
async def delete_group(call: Call, group: Loaded[Group]) -> None:
    """Delete a group; what its members had through it ends within a second."""
    await groups.delete(call, group)


@router.get("/groups/{group_id}/members", gate=gates.LIST_MEMBERS)
async def list_members(call: Call, group: Loaded[Group], limit: _Limit = 100, cursor: str | None = None) -> MemberList:
    """List who is in a group."""
    return await groups.list_members(call, group, limit=limit, cursor=cursor)


@router.post("/groups/{group_id}/members", gate=gates.CHANGE_MEMBERS)
async def add_members(call: Call, group: Loaded[Group], body: MembersIn) -> GroupOut:
    """Put people into a group: all of them, or none."""
    return await groups.put_members(call, group, body.user_ids)


@router.delete("/groups/{group_id}/members/{user_id}", gate=gates.CHANGE_MEMBERS)
async def remove_member(call: Call, group: Loaded[Group], user_id: str) -> GroupOut:
    """Take someone out of a group."""
    return await groups.take_member(call, group, user_id)
