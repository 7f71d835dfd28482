"""Use cases of operators' actions."""

from nexusrag.flags.switches import facade as flags
from nexusrag.infra.integrations import Integrations
from nexusrag.kernel.actions import Resource
from nexusrag.operations.actions.schemas import ActionTaken, BreakerReset
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def force(
    call: CallContext, action: str, flag: str, tenant_id: str | None, *, lift: bool = False, reason: str | None = None
) -> ActionTaken:
    """Force `flag` for one tenant or for everyone until OPS_FORCED_FLAG_TTL_S from now, or lift it before its time."""
    scope = tenant_id or flags.EVERYONE
    ends = None
    if lift:
        status = "lifted" if await flags.lift(call.db, flag, scope) else "unchanged"
    else:
        ttl_s = call.of(Settings).rollouts.ops_forced_flag_ttl_s
        ends = await flags.force(call.db, flag, scope, True, ttl_s=ttl_s, reason=reason, by=call.principal.subject_id)
        status = "forced"
    await call.announce(flags.FLAGS, flags.ALL)
    call.about(Resource.OPS, action)
    call.record(flag=flag, scope=scope, status=status, expires_at=ends, reason=reason, by_tenant=call.principal.tenant_id)
    return ActionTaken.model_validate({"action": action, "flag": flag, "tenant_id": tenant_id, "status": status, "expires_at": ends})


async def reset_breaker(call: CallContext, integration: str, tenant_id: str | None) -> BreakerReset:
    """Close the integration's breakers: of one tenant, or of all. Every process knows within a second."""
    closed = await call.of(Integrations).reset(integration, tenant_id)
    call.about(Resource.OPS, "reset-breaker")
    call.record(integration=integration, scope=tenant_id or flags.EVERYONE, closed=closed, by_tenant=call.principal.tenant_id)
    return BreakerReset(
        action="reset-breaker", integration=integration, tenant_id=tenant_id, status="reset" if closed else "unchanged", closed=closed
    )
