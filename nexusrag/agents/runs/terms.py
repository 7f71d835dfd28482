"""On what terms a run is accepted: what stages left it, what it may take at most, and what happens when that is too much."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from nexusrag.agents.runs.metering import Meter, dollars, meter_of
from nexusrag.agents.runs.schemas import RunRequest
from nexusrag.billing.admission.facade import say_used
from nexusrag.billing.costs.facade import budget_exceeded, cap_of, note_reservation
from nexusrag.billing.ledger.facade import Caps, Reservation, Verdict
from nexusrag.billing.quotas.facade import Quota, caps, exceeded, quota_of, watch
from nexusrag.infra.jobs import LEASE_S
from nexusrag.kernel.traffic import RouteClass
from nexusrag.web.call import CallContext

# Longer than a run lasts, its reservation stands: whoever closes the journals of dead runs has settled it by then.
_GRACE_S = 60


@dataclass(frozen=True, slots=True)
class Terms:
    """`reduced`: what the run was asked for and does not get."""

    meter: Meter
    top_k: int
    max_output_tokens: int
    audio: bool
    reservation: Reservation
    caps: Caps
    quota: Quota
    reduced: dict[str, Any] = field(default_factory=dict)


async def terms_of(call: CallContext, run_id: str, body: RunRequest, top_k: int, said_before: Sequence[tuple[str, str]]) -> Terms:
    """`top_k`: as it was asked for, by the request or else by its corpus."""
    limits, meter = call.limits, await meter_of(call.resources, call.db)
    longest = meter.gateway.max_output_tokens
    allowed_k = top_k if limits.top_k is None else max(1, min(top_k, limits.top_k))
    allowed_tokens = longest if limits.max_output_tokens is None else max(1, min(longest, limits.max_output_tokens))
    audio = body.audio and limits.audio
    most = meter.most(body.message, said_before, allowed_k, allowed_tokens, audio=audio)
    quota = await quota_of(call.resources, call.principal, call.db)
    return Terms(
        meter=meter,
        top_k=allowed_k,
        max_output_tokens=allowed_tokens,
        audio=audio,
        reservation=Reservation(
            subject=run_id,
            route_class=RouteClass.RUN.value,
            units=call.gate.units,
            tokens=most.tokens,
            usd=dollars(most),
            lasts=timedelta(seconds=meter.settings.llm.llm_total_timeout_s + LEASE_S + _GRACE_S),
            user_id=call.principal.subject_id,
            credential_id=call.principal.credential_id,
        ),
        caps=caps(quota, month_usd=await cap_of(call), counted=call.admission is not None and call.admission.counted),
        quota=quota,
        reduced=_reduced(body.audio and not audio, top_k, allowed_k, longest, allowed_tokens),
    )


async def accept(call: CallContext, terms: Terms, verdict: Verdict) -> None:
    """Raises QUOTA_EXCEEDED or COST_BUDGET_EXCEEDED when the reservation was refused."""
    if verdict.state == "refused":
        if verdict.cause == "usd":
            raise await budget_exceeded(call)
        limit, used = verdict.limit or Decimal(0), verdict.used or Decimal(0)
        raise exceeded(verdict.period or "month", int(limit), int(used), verdict.cause or "units")
    day, month = verdict.figures.day, verdict.figures.month
    await note_reservation(call, verdict.figures, terms.reservation.usd)
    if not terms.caps.counted:
        say_used(call, day.units, month.units)
    watch(call, terms.quota, (day.units, day.tokens), (month.units, month.tokens))


def _reduced(silent: bool, asked_k: int, top_k: int, longest: int, tokens: int) -> dict[str, Any]:
    reduced: dict[str, Any] = {}
    if silent:
        reduced["audio"] = False
    if top_k < asked_k:
        reduced["top_k"] = top_k
    if tokens < longest:
        reduced["max_output_tokens"] = tokens
    return reduced
