"""HTTP face of operators' actions: /v1/admin/ops/actions."""

from typing import Annotated, Literal

from fastapi import Body, Query

from nexusrag.kernel.switches import WRITE_FREEZE, Switch, shedding
from nexusrag.operations.actions import gates, service
from nexusrag.operations.actions.schemas import ActionTaken, BreakerReset, FreezeWrites
from nexusrag.web.call import Call
from nexusrag.web.router import Router

router = Router("admin/ops/actions", tag="Operations")
Lift = Annotated[bool, Query(description="end what was forced before its time")]


@router.post("/disable-tts", gate=gates.ACT)
async def disable_tts(call: Call, tenant_id: str | None = None, lift: Lift = False) -> ActionTaken:
    """Answer without audio, for one tenant or for all, until the flag ends by itself."""
    return await service.force(call, "disable-tts", Switch.TTS, tenant_id, lift=lift)


@router.post("/enable-shed", gate=gates.ACT)
async def enable_shed(
    call: Call, route_class: Literal["run", "mutation", "read"] = "run", tenant_id: str | None = None, lift: Lift = False
) -> ActionTaken:
    """Shed requests of a class, for one tenant or for all, until the flag ends by itself. Admins and operators are never shed."""
    return await service.force(call, "enable-shed", shedding(route_class), tenant_id, lift=lift)


@router.post("/freeze-writes", gate=gates.FREEZE)
async def freeze_writes(call: Call, body: Annotated[FreezeWrites | None, Body()] = None) -> ActionTaken:
    """Refuse every write of every tenant until the flag ends by itself, or lift that. Signing in and operators' actions go on."""
    asked = body or FreezeWrites()
    return await service.force(call, "freeze-writes", WRITE_FREEZE, None, lift=not asked.freeze, reason=asked.reason)


@router.post("/reset-breaker", gate=gates.ACT)
async def reset_breaker(
    call: Call, integration: Annotated[str, Query(min_length=1, max_length=128, pattern=r"^[a-z0-9._-]+$")], tenant_id: str | None = None
) -> BreakerReset:
    """Close the circuit breakers of an outside system, such as `llm.openai`, so that it is called again at once."""
    return await service.reset_breaker(call, integration, tenant_id)
