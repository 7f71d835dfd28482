"""The stage of the switches: what is killed or frozen is refused before anything is spent on it."""

from nexusrag.flags.switches.held import Held
from nexusrag.flags.switches.switches import Switches
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.switches import WRITE_FREEZE, Switch
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage

# An operator may lift a switch at any moment, so nobody is told to wait for its end.
_RETRY_S = 30


async def check(call: CallContext) -> None:
    """Refuse with FEATURE_TEMPORARILY_DISABLED what a kill switch is on for, and with WRITE_FROZEN every write while nothing is written.

    A reader that comes back to a run does not begin one. A run goes on without audio where there is none.
    """
    held = await call.of(Switches).current()
    principal, switch = call.known_principal, call.gate.switch
    tenant_id = call.tenant_id if principal else None
    if "last-event-id" in call.request.headers and switch is Switch.RUN:
        return
    if held.frozen and _refused_when_frozen(call.gate, call.request.method):
        message = "Nothing is written at present; what is there can be read."
        raise ApiError(ErrorCode.WRITE_FROZEN, message, headers=_retry_after(held, WRITE_FREEZE, None))
    if switch is not None and held.is_on(switch, tenant_id):
        raise disabled(held, switch, tenant_id)
    if switch is Switch.RUN and tenant_id is not None:
        call.limits.tighten(audio=held.speaks(tenant_id))


def disabled(held: Held, switch: Switch, tenant_id: str | None) -> ApiError:
    """The refusal while `switch` is on, or while its canary leaves the tenant out."""
    message = "This is switched off at present; try again later."
    return ApiError(
        ErrorCode.FEATURE_TEMPORARILY_DISABLED, message, {"switch": switch.value}, headers=_retry_after(held, switch, tenant_id)
    )


def _retry_after(held: Held, key: str, tenant_id: str | None) -> dict[str, str]:
    forced = held.forced_for(key, tenant_id)
    return {"Retry-After": str(_RETRY_S if forced is None else max(1, min(_RETRY_S, round(forced.left_s))))}


def _refused_when_frozen(gate: Gate, method: str) -> bool:
    return method not in ("GET", "HEAD", "OPTIONS") and not gate.despite_freeze


def _needed(gate: Gate, method: str) -> bool:
    return gate.switch is not None or _refused_when_frozen(gate, method)


STAGE = Stage("switches", check, _needed)
