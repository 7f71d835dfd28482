"""All SQL of roles."""

from collections.abc import Sequence

from sqlalchemy import Select, func, select

from nexusrag.access.roles.models import CustomRole
from nexusrag.infra.database import Work
from nexusrag.kernel.actions import Action, Role
from nexusrag.kernel.errors import not_found
from nexusrag.web.call import CallContext


async def load(call: CallContext, role_id: str) -> CustomRole:
    """The tenant's own role, which nobody else changes or assigns until the transaction ends, or not found."""
    call.resource_id = role_id
    change = call.gate.action is Action.ROLES_MANAGE
    role: CustomRole | None = await call.session.scalar(_of(call.db, role_id).with_for_update() if change else _of(call.db, role_id))
    if role is None:
        raise not_found("role")
    return role


async def hold(work: Work, role_id: str) -> CustomRole | None:
    """The role, neither changed nor deleted by others until the transaction ends."""
    role: CustomRole | None = await work.session.scalar(_of(work, role_id).with_for_update(read=True))
    return role


def _of(work: Work, role_id: str) -> Select[CustomRole]:
    return select(CustomRole).where(CustomRole.tenant_id == work.tenant_id, CustomRole.id == role_id)


async def by_id(work: Work) -> Sequence[CustomRole]:
    return (await work.session.scalars(select(CustomRole).where(CustomRole.tenant_id == work.tenant_id).order_by(CustomRole.id))).all()


async def bases(work: Work) -> dict[str, Role]:
    """The built-in role that stands for each custom one."""
    rows = await work.session.execute(select(CustomRole.id, CustomRole.base).where(CustomRole.tenant_id == work.tenant_id))
    return {row.id: Role(row.base) for row in rows}


async def count(work: Work) -> int:
    return await work.session.scalar(select(func.count()).select_from(CustomRole).where(CustomRole.tenant_id == work.tenant_id)) or 0
