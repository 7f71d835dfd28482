"""HTTP face of roles: /v1/admin/authz/roles and /v1/admin/authz/actions."""

from nexusrag.access.roles import gates, service
from nexusrag.access.roles.models import CustomRole
from nexusrag.access.roles.schemas import ActionList, RoleDefinition, RoleList, RoleOut, RolePatch
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

router = Router("admin/authz", tag="Roles")


@router.get("/actions", gate=gates.LIST)
async def list_actions() -> ActionList:
    """List every action, with the least built-in role that has it."""
    return ActionList(items=service.list_actions())


@router.get("/roles", gate=gates.LIST)
async def list_roles(call: Call) -> RoleList:
    """List the tenant's own roles."""
    return RoleList(items=await service.list_roles(call))


@router.post("/roles", gate=gates.DEFINE, status_code=201)
async def define_role(call: Call, body: RoleDefinition) -> RoleOut:
    """Define a role out of actions that you have yourself."""
    return await service.define(call, body)


@router.patch("/roles/{role_id}", gate=gates.CHANGE)
async def change_role(call: Call, role: Loaded[CustomRole], body: RolePatch) -> RoleOut:
    """Change a role; it acts on everyone who holds it within a second."""
    return await service.change(call, role, body)


@router.delete("/roles/{role_id}", gate=gates.DELETE, status_code=204)
async def delete_role(call: Call, role: Loaded[CustomRole]) -> None:
    """Delete a role that nobody holds."""
    await service.delete(call, role)
