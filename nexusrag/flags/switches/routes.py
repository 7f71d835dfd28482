"""HTTP face of switches: /v1/admin/rollouts."""

from nexusrag.flags.switches import gates, service
from nexusrag.flags.switches.schemas import Canaries, CanariesPatch, KillSwitches, KillSwitchesPatch
from nexusrag.web.call import Call
from nexusrag.web.router import Router

router = Router("admin/rollouts", tag="Operations")


@router.get("/killswitches", gate=gates.READ)
async def get_kill_switches(call: Call, tenant_id: str | None = None) -> KillSwitches:
    """What is switched off, for everyone or for one tenant, where that comes from, and what operators' actions force at present."""
    return await service.kill_switches(call, tenant_id)


@router.patch("/killswitches", gate=gates.SWITCH)
async def patch_kill_switches(call: Call, body: KillSwitchesPatch) -> KillSwitches:
    """Switch parts of the product off or on, for all tenants, in every process within a second."""
    return await service.switch(call, body)


@router.get("/canary", gate=gates.READ)
async def get_canaries(call: Call, tenant_id: str | None = None) -> Canaries:
    """Which percentage of tenants has each feature that is being rolled out, and whether one tenant is among them."""
    return await service.canaries(call, tenant_id)


@router.patch("/canary", gate=gates.ROLL_OUT)
async def patch_canaries(call: Call, body: CanariesPatch) -> Canaries:
    """Roll out to this percentage of tenants. Those who had it keep it when the percentage grows."""
    return await service.roll_out(call, body)
