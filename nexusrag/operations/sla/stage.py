"""The stages of service levels: first whether a request is served at all, so that refusing it costs little; last what it is spared.

Admins, operators among them, and the routes of operations are never refused: they are who mends things.
"""

from time import time
from typing import Any

from nexusrag.flags.switches.facade import forced
from nexusrag.infra.metrics import SHED
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.switches import shedding
from nexusrag.kernel.traffic import RouteClass
from nexusrag.operations.sla.config import Mitigation
from nexusrag.operations.sla.decisions import Bound, Decisions, Stand
from nexusrag.operations.sla.measure import Measurer
from nexusrag.operations.sla.verdict import Decision, Status
from nexusrag.settings import Settings
from nexusrag.settings.sla import SlaSettings
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage

# What stands in place of a policy where an operator sheds by hand.
BY_HAND = "forced"


async def guard(call: CallContext) -> None:
    """Measure the request, and refuse with SLA_SHED_LOAD what is shed: by an operator's flag, or by the policy of a breached tenant."""
    settings = call.of(Settings).sla
    if settings.sla_engine_enabled:
        call.of(Measurer).watch(call)
    decisions = call.of(Decisions)
    met = decisions.of(call.principal.tenant_id, call.route_class)
    if met is not None:  # whatever refuses the request now, its answer says how its tenant stands
        _say(call, *met)
    if call.principal.is_admin or call.route_class is RouteClass.OPS or _resumes(call):
        return
    if await forced(call.resources, shedding(call.route_class.value), call.principal.tenant_id):
        stand = Stand(Status.BREACHED, Decision.SHED, _window_end(settings))
        raise _shed(call, BY_HAND, stand, "forced")
    if met is None or met[1].decision is not Decision.SHED or not settings.sla_shed_enabled:
        return
    if decisions.sheds(call.principal.tenant_id, call.route_class):
        bound, stand = met
        decisions.enforced[call.principal.tenant_id, call.route_class, bound.policy_id, Decision.SHED] += 1
        raise _shed(call, bound.policy_id, stand, "policy")


async def apply(call: CallContext) -> None:
    """Warn, or take from the request what its policy gives up first, and say so in headers and on the stream."""
    decisions = call.of(Decisions)
    met = decisions.of(call.principal.tenant_id, call.route_class)
    if met is None:
        return
    bound, stand = met
    decision = _say(call, bound, stand)
    if decision is Decision.ALLOW:
        return
    decisions.enforced[call.principal.tenant_id, call.route_class, bound.policy_id, decision] += 1
    about = _about(call.route_class, bound.policy_id, stand, decision)
    if decision is Decision.WARN:
        call.notices.append(("sla.warn", about))
        return
    applied = degrade(call, bound.config.mitigation, call.of(Settings).sla)
    call.notices.append(("sla.degrade.applied", {**about, "applied": applied}))


def degrade(call: CallContext, mitigation: Mitigation, settings: SlaSettings) -> list[str]:
    """Take away audio, then passages, then output tokens, then other providers than our own index; what was taken, in this order."""
    applied = []
    disable_audio = mitigation.disable_tts_first
    if settings.sla_degrade_tts_disable if disable_audio is None else disable_audio:
        call.limits.tighten(audio=False)
        applied.append("disable_audio")
    call.limits.tighten(top_k=mitigation.reduce_top_k_floor or settings.sla_degrade_top_k_floor)
    applied.append("reduce_top_k")
    call.limits.tighten(max_output_tokens=mitigation.cap_output_tokens or settings.sla_degrade_max_output_tokens)
    applied.append("cap_output_tokens")
    if mitigation.provider_fallback_order:
        call.limits.tighten(local_only=True)
        applied.append("provider_fallback")
    return applied


def _say(call: CallContext, bound: Bound, stand: Stand) -> Decision:
    """Put into the headers what becomes of whoever is served, and return it: in place of being shed, to be degraded at least."""
    decision = stand.decision if stand.decision is not Decision.SHED else _least(bound)
    call.always.update(_headers(call.route_class, bound.policy_id, stand, decision))
    return decision


def _least(bound: Bound) -> Decision:
    return Decision.DEGRADE if bound.config.mitigation.allow_degrade else Decision.WARN


def _resumes(call: CallContext) -> bool:
    """A reader that comes back to a run begins none."""
    return call.route_class is RouteClass.RUN and "last-event-id" in call.request.headers


def _shed(call: CallContext, policy_id: str, stand: Stand, reason: str) -> ApiError:
    SHED.labels(reason, call.route_class.value).inc()
    window_s = call.of(Settings).sla.sla_measurement_window_seconds
    about = _about(call.route_class, policy_id, stand, Decision.SHED)
    headers = {"Retry-After": str(max(1, round(window_s - time() % window_s)))}
    error = ApiError(
        ErrorCode.SLA_SHED_LOAD,
        "The service level is breached, and this request is not served for now; try again later.",
        about,
        headers={**headers, **_headers(call.route_class, policy_id, stand, Decision.SHED)},
    )
    error.told = ("sla.shed", about)
    return error


def _about(route_class: RouteClass, policy_id: str, stand: Stand, decision: Decision) -> dict[str, Any]:
    return {
        "policy_id": policy_id,
        "route_class": route_class.value,
        "status": stand.status.value,
        "decision": decision.value,
        "window_end": stand.window_end_text,
    }


def _headers(route_class: RouteClass, policy_id: str, stand: Stand, decision: Decision) -> dict[str, str]:
    return {
        "X-SLA-Status": stand.status.value,
        "X-SLA-Policy-Id": policy_id,
        "X-SLA-Decision": decision.value,
        "X-SLA-Route-Class": route_class.value,
        "X-SLA-Window-End": stand.window_end_text,
    }


def _window_end(settings: SlaSettings) -> float:
    window_s = settings.sla_measurement_window_seconds
    return time() // window_s * window_s


def _needed(gate: Gate, method: str) -> bool:
    return not gate.is_public


GUARD = Stage("service level", guard, _needed)
STAGE = Stage("mitigation", apply, _needed)
