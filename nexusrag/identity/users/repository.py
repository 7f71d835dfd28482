"""All SQL of users, groups and changes of roles."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, func, select, update

from nexusrag.identity.users.models import Group, GroupMember, RoleChange, User
from nexusrag.infra.database import Work
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.web.call import CallContext


async def load_user(call: CallContext, user_id: str) -> User:
    """The user of the caller's tenant, or not found."""
    call.resource_id = user_id
    user = await find_user(call.db, user_id)
    if user is None:
        raise not_found("user")
    return user


async def load_group(call: CallContext, group_id: str) -> Group:
    """The group of the caller's tenant, or not found."""
    call.resource_id = group_id
    group = await find_group(call.db, group_id)
    if group is None:
        raise not_found("group")
    return group


async def load_role_change(call: CallContext, change_id: str) -> RoleChange:
    """The change of the caller's tenant, or not found."""
    call.resource_id = change_id
    statement = select(RoleChange).where(RoleChange.tenant_id == call.tenant_id, RoleChange.id == change_id)
    change: RoleChange | None = await call.session.scalar(statement)
    if change is None:
        raise not_found("role change")
    return change


async def find_user(work: Work, user_id: str) -> User | None:
    """The user, unless they were removed."""
    user: User | None = await work.session.scalar(users(work).where(User.id == user_id))
    return user


async def find_group(work: Work, group_id: str) -> Group | None:
    group: Group | None = await work.session.scalar(select(Group).where(Group.tenant_id == work.tenant_id, Group.id == group_id))
    return group


def users(work: Work) -> Select[User]:
    return select(User).where(User.tenant_id == work.tenant_id, User.deleted_at.is_(None))


def groups_with_size(work: Work) -> Select[Any]:
    """Groups, each with how many people are in it."""
    size = (
        select(func.count())
        .select_from(GroupMember)
        .join(User, (User.tenant_id == GroupMember.tenant_id) & (User.id == GroupMember.user_id))
        .where(GroupMember.tenant_id == Group.tenant_id, GroupMember.group_id == Group.id, User.deleted_at.is_(None))
        .correlate(Group)
        .scalar_subquery()
    )
    return select(Group, size).where(Group.tenant_id == work.tenant_id)


def members(work: Work, group: Group) -> Select[User]:
    """The people in the group."""
    inside = select(GroupMember.user_id).where(GroupMember.tenant_id == work.tenant_id, GroupMember.group_id == group.id)
    return users(work).where(User.id.in_(inside))


def role_changes(work: Work, *, pending: bool) -> Select[RoleChange]:
    """All requests, or those that wait for a decision."""
    statement = select(RoleChange).where(RoleChange.tenant_id == work.tenant_id)
    return statement.where(RoleChange.outcome.is_(None), RoleChange.expires_at > func.now()) if pending else statement


@asynccontextmanager
async def an_admin_remains(work: Work) -> AsyncIterator[None]:
    """For whatever may lower somebody: one such change of a tenant at a time. Raises CONFLICT when it took the last active admin."""
    await work.raw.execute("select pg_advisory_xact_lock(hashtextextended('people ' || $1, 0))", work.tenant_id)
    before = await _count_admins(work)
    yield
    await work.flush()
    if before and not await _count_admins(work):
        raise ApiError(ErrorCode.CONFLICT, "The tenant would be left without an active admin; make another one first.")


async def _count_admins(work: Work) -> int:
    """Active users with the role admin, of their own or by a group. Custom roles do not count, whatever is in them."""
    found: int = await work.raw.fetchval(
        "select count(*) from users u where u.tenant_id = $1 and u.status = 'active' and u.deleted_at is null "
        "and (u.role = 'admin' and u.custom_role_id is null or exists (select 1 from group_members m "
        "join groups g on g.tenant_id = m.tenant_id and g.id = m.group_id "
        "where m.tenant_id = u.tenant_id and m.user_id = u.id and g.role = 'admin'))",
        work.tenant_id,
    )
    return found


async def renew(work: Work, entity: User | Group | RoleChange) -> None:
    """Read the entity again, now that nobody else changes it. Raises NOT_FOUND when it is gone."""
    found = await work.session.scalar(
        select(type(entity))
        .where(type(entity).tenant_id == work.tenant_id, type(entity).id == entity.id)
        .execution_options(populate_existing=True)
    )
    if found is None or (isinstance(found, User) and found.deleted_at is not None):
        raise not_found(type(entity).__name__.lower())


async def known_users(work: Work, user_ids: Collection[str]) -> set[str]:
    """Those of the ids that are people of this tenant."""
    return set(await work.session.scalars(users(work).with_only_columns(User.id).where(User.id.in_(user_ids))))


async def is_member(work: Work, group_id: str, user_id: str) -> bool:
    return await work.session.get(GroupMember, {"tenant_id": work.tenant_id, "user_id": user_id, "group_id": group_id}) is not None


async def put_members(work: Work, group: Group, user_ids: Collection[str]) -> list[str]:
    """Add people to the group; those who were not in it."""
    await work.flush()
    added = await work.raw.fetch(
        "insert into group_members (tenant_id, group_id, user_id) select $1, $2, key from unnest($3::text[]) key "
        "on conflict do nothing returning user_id",
        work.tenant_id, group.id, list(user_ids),
    )  # fmt: skip
    return [row["user_id"] for row in added]


async def take_members(work: Work, group: Group, user_ids: Collection[str]) -> list[str]:
    """Take people out of the group; those who were in it."""
    await work.flush()
    removed = await work.raw.fetch(
        "delete from group_members where tenant_id = $1 and group_id = $2 and user_id = any($3::text[]) returning user_id",
        work.tenant_id, group.id, list(user_ids),
    )  # fmt: skip
    return [row["user_id"] for row in removed]


async def leave_groups(work: Work, user_id: str) -> None:
    await work.session.execute(delete(GroupMember).where(GroupMember.tenant_id == work.tenant_id, GroupMember.user_id == user_id))


async def close_role_change(work: Work, *, user_id: str | None, group_id: str | None, now: datetime) -> None:
    """Another role was given or asked for, so an open request for one is void."""
    await work.session.execute(
        update(RoleChange)
        .where(
            RoleChange.tenant_id == work.tenant_id,
            RoleChange.outcome.is_(None),
            RoleChange.user_id.is_not_distinct_from(user_id),
            RoleChange.group_id.is_not_distinct_from(group_id),
        )
        .values(outcome="replaced", decided_at=now)
    )
