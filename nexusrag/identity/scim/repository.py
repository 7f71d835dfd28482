"""All SQL of provisioning: tokens, searches over people and groups, and who is in which group."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Label, Select, Text, any_, cast, func, literal, null, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY

from nexusrag.identity.scim.columns import Expression, Rows, people, shown_name
from nexusrag.identity.scim.conditions import condition
from nexusrag.identity.scim.filters import Node
from nexusrag.identity.scim.models import ScimToken
from nexusrag.identity.users.facade import Group, GroupMember, User
from nexusrag.infra.database import Work
from nexusrag.kernel.errors import not_found
from nexusrag.web.call import CallContext


@dataclass(frozen=True, slots=True)
class Found:
    """Ids by kind of resource, in order: one page of `total`."""

    total: int
    page: list[tuple[str, str]]


async def load_token(call: CallContext, token_id: str) -> ScimToken:
    """The token of the caller's tenant, held against others until the transaction ends, or not found."""
    call.resource_id = token_id
    statement = select(ScimToken).where(ScimToken.tenant_id == call.tenant_id, ScimToken.id == token_id).with_for_update()
    token: ScimToken | None = await call.session.scalar(statement)
    if token is None:
        raise not_found("SCIM token")
    return token


def tokens(work: Work) -> Select[ScimToken]:
    return select(ScimToken).where(ScimToken.tenant_id == work.tenant_id)


async def search(
    work: Work, sources: Sequence[Rows], node: Node | None, keys: Sequence[Label[Any] | None], *, descending: bool, offset: int, limit: int
) -> Found:
    """What the filter means in all sources together, sorted by the key of each and then by id. What has no value comes last, or first
    where it descends.
    """
    typed = next((key for key in keys if key is not None), None)
    parts = [
        _part(work, rows, node, cast(null(), typed.type).label("key") if typed is not None and key is None else key)
        for rows, key in zip(sources, keys, strict=True)
    ]
    found = union_all(*parts).subquery("found") if len(parts) > 1 else parts[0].subquery("found")
    order = [found.c.id] if typed is None else [found.c.key.desc() if descending else found.c.key, found.c.id]
    statement = select(found.c.kind, found.c.id).order_by(*order).offset(offset).limit(limit)
    page = [(kind, key) for kind, key in await work.session.execute(statement)] if limit else []
    if len(page) < limit and (page or not offset):
        return Found(offset + len(page), page)  # the last page: it says how many there are
    return Found(await work.session.scalar(select(func.count()).select_from(found)) or 0, page)


def _part(work: Work, rows: Rows, node: Node | None, key: Label[Any] | None) -> Select[tuple[str, str]]:
    columns: list[Expression] = [literal(rows.kind.name).label("kind"), rows.entity.id.label("id")]
    if key is not None:
        columns.append(key)
    statement = select(*columns).select_from(rows.entity).where(rows.here(work.tenant_id))
    return statement if node is None else statement.where(condition(rows, node))


async def people_by_id(work: Work, user_ids: Collection[str]) -> dict[str, User]:
    if not user_ids:
        return {}
    found = await work.session.scalars(select(User).where(people(work.tenant_id), User.id.in_(user_ids)))
    return {user.id: user for user in found}


async def groups_by_id(work: Work, group_ids: Collection[str]) -> dict[str, Group]:
    if not group_ids:
        return {}
    found = await work.session.scalars(select(Group).where(Group.tenant_id == work.tenant_id, Group.id.in_(group_ids)))
    return {group.id: group for group in found}


async def groups_of(work: Work, user_ids: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """Id and name of the groups of each person who is in any."""
    found: dict[str, list[tuple[str, str]]] = {}
    if user_ids:
        statement = (
            select(GroupMember.user_id, Group.id, Group.display_name)
            .join(Group, (Group.tenant_id == GroupMember.tenant_id) & (Group.id == GroupMember.group_id))
            .where(GroupMember.tenant_id == work.tenant_id, GroupMember.user_id.in_(user_ids))
            .order_by(Group.id)
        )
        for user_id, group_id, name in await work.session.execute(statement):
            found.setdefault(user_id, []).append((group_id, name))
    return found


async def members_of(work: Work, group_ids: Collection[str]) -> dict[str, list[str]]:
    """Ids of the people in each group that has any.

    Two statements instead of a join: a plan from the time when there were few people would look through all of them for each member.
    """
    found: dict[str, list[str]] = {}
    if group_ids:
        statement = (
            select(GroupMember.group_id, GroupMember.user_id)
            .where(GroupMember.tenant_id == work.tenant_id, GroupMember.group_id.in_(group_ids))
            .order_by(GroupMember.user_id)
        )
        members = (await work.session.execute(statement)).all()
        known = await known_people(work, {user_id for _, user_id in members})
        for group_id, user_id in members:
            if user_id in known:
                found.setdefault(group_id, []).append(user_id)
    return found


async def known_people(work: Work, user_ids: Collection[str]) -> set[str]:
    """Those of the ids that are people of this tenant."""
    if not user_ids:
        return set()
    named = any_(literal(list(user_ids), ARRAY(Text())))  # one parameter, however many there are
    return set(await work.session.scalars(select(User.id).where(people(work.tenant_id), User.id == named)))


async def is_name_taken(work: Work, name: str, except_id: str | None = None) -> bool:
    """Whether another person of the tenant logs in under this name, in any case."""
    statement = select(User.id).where(people(work.tenant_id), func.lower(shown_name()) == func.lower(literal(name, Text())))
    if except_id is not None:
        statement = statement.where(User.id != except_id)
    return await work.session.scalar(statement.limit(1)) is not None


async def is_bound(work: Work, user_id: str) -> bool:
    """Whether an identity provider has vouched for the person: nobody else can become them by a name."""
    found = await work.raw.fetchval(
        "select exists (select 1 from user_identities where tenant_id = $1 and user_id = $2)", work.tenant_id, user_id
    )
    return bool(found)


async def is_raised_by_group(work: Work, user_id: str) -> bool:
    """Whether the person is in a group that brings more than the role of newcomers."""
    found = await work.raw.fetchval(
        "select exists (select 1 from group_members m join groups g on g.tenant_id = m.tenant_id and g.id = m.group_id "
        "where m.tenant_id = $1 and m.user_id = $2 and g.role in ('editor', 'admin'))",
        work.tenant_id,
        user_id,
    )
    return bool(found)
