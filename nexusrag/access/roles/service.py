"""Use cases of roles."""

from sqlalchemy.exc import IntegrityError

from nexusrag.access.permissions.facade import forget_role
from nexusrag.access.roles import repository
from nexusrag.access.roles.assignment import demand_within
from nexusrag.access.roles.models import CustomRole
from nexusrag.access.roles.schemas import ActionOut, RoleDefinition, RoleOut, RolePatch
from nexusrag.infra.changes import TENANT
from nexusrag.kernel import clock
from nexusrag.kernel.actions import ACTIONS_OF, LEAST_ROLE, POLICY_TERMS, Action, Resource, Role, actions_named, least_role
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

# All of a tenant's roles are read whenever one of its credentials is checked.
_MOST = 100


def list_actions() -> list[ActionOut]:
    """Every action of the product."""
    return [
        ActionOut(action=action, resource=POLICY_TERMS[action][0], least_role=LEAST_ROLE[action] if action in _HELD else None)
        for action in Action
    ]


_HELD = ACTIONS_OF[Role.ADMIN]


async def list_roles(call: CallContext) -> list[RoleOut]:
    return [RoleOut.of(role) for role in await repository.by_id(call.db)]


async def define(call: CallContext, body: RoleDefinition) -> RoleOut:
    """Raises AUTH_FORBIDDEN for actions that the caller lacks, CONFLICT when the id is taken or the tenant has enough roles."""
    demand_within(call.principal, body.actions)
    if await repository.count(call.db) >= _MOST:
        raise ApiError(ErrorCode.CONFLICT, f"A tenant has at most {_MOST} roles of its own; delete one first.")
    role = CustomRole(
        tenant_id=call.tenant_id,
        id=body.id,
        name=body.name,
        description=body.description,
        base=least_role(body.actions).value,
        actions=sorted(set(body.actions)),
        created_by=call.principal.subject_id,
    )
    try:
        async with call.session.begin_nested():
            call.session.add(role)
    except IntegrityError as error:
        raise ApiError(ErrorCode.CONFLICT, "A role with this id exists.") from error
    call.about(Resource.ROLE, role.id)
    call.record(actions=role.actions)
    return RoleOut.of(role)


async def change(call: CallContext, role: CustomRole, patch: RolePatch) -> RoleOut:
    """Whoever holds the role has the new actions within a second.

    Raises AUTH_FORBIDDEN for actions that the caller lacks, CONFLICT for new ones where raising somebody needs a second admin.
    """
    if patch.actions is not None:
        demand_within(call.principal, patch.actions)
        wider = set(patch.actions) - actions_named(role.actions)
        if wider and call.of(Settings).identity.identity_dual_control_required:
            raise ApiError(
                ErrorCode.CONFLICT, "This would raise everyone who holds the role without a second admin; define a new role and assign it."
            )
        role.actions = sorted(set(patch.actions))
        role.base = least_role(patch.actions).value
    if patch.name is not None:
        role.name = patch.name
    if "description" in patch.model_fields_set:
        role.description = patch.description
    if patch.model_fields_set:
        role.updated_at = clock.now()
        await call.session.flush()
        await call.announce(TENANT, call.tenant_id)
    call.record(changed=sorted(patch.model_fields_set), actions=role.actions)
    return RoleOut.of(role)


async def delete(call: CallContext, role: CustomRole) -> None:
    """Raises CONFLICT while somebody or something holds the role."""
    try:
        async with call.session.begin_nested():
            await call.session.delete(role)
    except IntegrityError as error:
        raise ApiError(
            ErrorCode.CONFLICT, "This role is held by people, keys or invitations; give them another one, or revoke them, first."
        ) from error
    await forget_role(call.db, role.id)
    await call.announce(TENANT, call.tenant_id)
