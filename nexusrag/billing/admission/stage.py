"""The stages of admission: rates before anything is read, and where the work would begin, places and units."""

from dataclasses import replace
from functools import partial

from nexusrag.billing.admission.emptied import Emptied, rate_limited
from nexusrag.billing.admission.service import Admission, Admissions, Bucket, record_limited
from nexusrag.billing.quotas.facade import exceeded, watch
from nexusrag.infra.metrics import ADMISSION_REFUSALS
from nexusrag.kernel.errors import ApiError
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage

_PLACE_WAIT_MS = 1000
_NONE = "unlimited"


async def check_rates(call: CallContext) -> None:
    """Set the verdicts, and refuse when a bucket is empty."""
    admissions = call.of(Admissions)
    admission = call.admission = await admissions.admit(call)
    what = f"rate:{call.principal.tenant_id}:{call.principal.credential_id}"
    if admission.refused_by is not None:
        scope = _remember(call, admission.refused_by, admission.wait_ms)
        await _note(call, what, scope)
        raise rate_limited(call.route_class, scope, admission.wait_ms)
    if admission.emptied is not None and admissions.is_known(what):  # the first who is refused within a minute goes on record here
        _remember(call, admission.emptied, admission.wait_ms)
    if call.gate.idempotent and call.request.method != "GET":
        # A stored answer is given without this request's units.
        _say(call, admission, admission.units if admission.taken is not None else 0)


async def check_quota(call: CallContext) -> None:
    """Refuse when the tenant has too many requests under way, or its units are used up. What only repeats a run counts nothing."""
    admission: Admission | None = call.admission
    if admission is None:
        return
    if _repeats_a_run(call):
        if admission.taken is not None:
            admission.taken.spent = False
        return
    if not admission.place:
        await _note(call, f"place:{call.principal.tenant_id}", "tenant_concurrency")
        raise rate_limited(call.route_class, "tenant_concurrency", _PLACE_WAIT_MS)
    if admission.over is not None:
        raise _exceeded(call, admission)
    _say(call, admission, 0)
    if admission.counted and admission.used is not None and admission.units and call.acting_in is None:
        day, month = admission.used
        watch(call, admission.quota, (day, 0), (month, 0))


def say_used(call: CallContext, day: int, month: int) -> None:
    """What the tenant has used, once somebody else than admission has counted the units of the request."""
    admission: Admission | None = call.admission
    if admission is not None:
        _say(call, replace(admission, used=(day, month)), 0)


def _remember(call: CallContext, bucket: Bucket, wait_ms: int) -> str:
    """Refuse from memory until the bucket has a token again. Its name for clients."""
    scope = call.principal.credential.value if bucket == "key" else "tenant"
    call.of(Emptied).note(call.principal, call.request.method, call.request.scope["path"], call.route_class, scope, wait_ms)
    return scope


async def _note(call: CallContext, what: str, scope: str) -> None:
    """Once a minute, however many are refused."""
    if await call.of(Admissions).is_news(what):
        told = {"scope": scope, "route_class": call.route_class.value}
        call.on_over(partial(record_limited, call, told))


def _exceeded(call: CallContext, admission: Admission) -> ApiError:
    assert admission.over is not None and admission.used is not None
    period, quota, (day, month) = admission.over, admission.quota, admission.used
    limit, used = (quota.day_units, day) if period == "day" else (quota.month_units, month)
    ADMISSION_REFUSALS.labels(f"quota_{period}", call.route_class.value).inc()
    return exceeded(period, limit or 0, used)


def _say(call: CallContext, admission: Admission, own: int) -> None:
    """The headers of a successful answer; `own` units of this request are left out."""
    if admission.used is None or not call.gate.transaction:
        return
    quota, headers = admission.quota, call.headers
    day, month = admission.used[0] - own, admission.used[1] - own
    for name, limit, used in (("Day", quota.day_units, day), ("Month", quota.month_units, month)):
        headers[f"X-Quota-{name}-Limit"] = _NONE if limit is None else str(limit)
        headers[f"X-Quota-{name}-Used"] = str(used)
        headers[f"X-Quota-{name}-Remaining"] = _NONE if limit is None else str(max(0, limit - used))
    headers["X-Quota-SoftCap-Reached"] = "true" if quota.reaches_soft_cap(day, month) else "false"
    headers["X-Quota-HardCap-Mode"] = "enforce" if quota.hard else "observe"


def _repeats_a_run(call: CallContext) -> bool:
    """The key of a run that there is already, or a reader that comes back."""
    return call.gate.bulkhead == "run" and (call.run_id is not None or "last-event-id" in call.request.headers)


def _has_caller(gate: Gate, method: str) -> bool:
    return not gate.is_public


STAGE = Stage("rate limit", check_rates, _has_caller)
QUOTA = Stage("quota", check_quota, _has_caller)
