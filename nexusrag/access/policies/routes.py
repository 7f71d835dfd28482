"""HTTP face of policies: /v1/admin/authz/policies."""

from typing import Any

from nexusrag.access.policies import gates, service
from nexusrag.access.policies.schemas import PolicyIn, PolicyList, PolicyOut, PolicyPatch, SimulationIn, SimulationOut
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

router = Router("admin/authz/policies", tag="Policies")


@router.get("", gate=gates.LIST)
async def list_policies(call: Call, include_global: bool = True) -> PolicyList:
    """List the tenant's policies, highest priority first, and with `include_global` those of the platform."""
    return PolicyList(items=await service.policies(call, include_global=include_global))


@router.post("", gate=gates.CREATE, status_code=201)
async def create_policy(call: Call, body: PolicyIn) -> PolicyOut:
    """Create a policy. An enabled one binds at once; simulate it first by creating it with `enabled: false`."""
    return await service.create(call, body)


@router.get("/{policy_id}", gate=gates.READ)
async def get_policy(call: Call, policy: Loaded[Any]) -> PolicyOut:
    """Get one policy."""
    return PolicyOut.of(policy)


@router.patch("/{policy_id}", gate=gates.UPDATE)
async def update_policy(call: Call, policy: Loaded[Any], patch: PolicyPatch) -> PolicyOut:
    """Change a policy. Its version rises."""
    return await service.update(call, policy, patch)


@router.delete("/{policy_id}", gate=gates.DELETE, status_code=204)
async def delete_policy(call: Call, policy: Loaded[Any]) -> None:
    """Delete a policy."""
    await service.delete(call, policy)


@router.post("/{policy_id}/enable", gate=gates.ENABLE)
async def enable_policy(call: Call, policy: Loaded[Any]) -> PolicyOut:
    """Let a policy bind."""
    return await service.switch(call, policy, on=True)


@router.post("/{policy_id}/disable", gate=gates.DISABLE)
async def disable_policy(call: Call, policy: Loaded[Any]) -> PolicyOut:
    """Let a policy bind no more."""
    return await service.switch(call, policy, on=False)


@router.post("/{policy_id}/simulate", gate=gates.SIMULATE)
async def simulate_policy(call: Call, policy: Loaded[Any], body: SimulationIn) -> SimulationOut:
    """Decide a supposed request by the enabled policies and this one, and say why. Nothing is granted by it."""
    return await service.simulate(call, policy, body)
