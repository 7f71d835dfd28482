"""Use cases of quotas: what is in force, changing it, and telling of a cap that was reached."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import asyncpg
import structlog

from nexusrag.billing.ledger.facade import Caps, Noted, PeriodName, figures, note_once
from nexusrag.billing.plans.facade import held_by
from nexusrag.billing.quotas import repository
from nexusrag.billing.quotas.cache import CHANGED, Quotas
from nexusrag.billing.quotas.limits import Quota, resolve
from nexusrag.billing.quotas.schemas import QuotaSnapshot, TenantQuotaOut, TenantQuotaPatch
from nexusrag.billing.webhooks import facade as webhooks
from nexusrag.infra.database import Database, Work
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.security.audit import facade as audit
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext, Outcome

log = structlog.get_logger(__name__)
_THRESHOLDS: tuple[tuple[Noted, Callable[[Quota, int], int]], ...] = (
    ("soft_cap", Quota.soft_cap),
    ("overage", lambda _, limit: limit + 1),
)
_SAID = {"day": "Daily", "month": "Monthly"}
_COUNTED = {"units": "request", "tokens": "token"}


async def quota_in(work: Work, settings: Settings) -> Quota:
    """The quota in force of the transaction's tenant, read anew."""
    held = await held_by(work, settings)
    on = {one.feature for one in held.entitlements if one.enabled}
    return resolve(held.plan, on, await repository.find(work))


async def snapshot(work: Work, settings: Settings) -> QuotaSnapshot:
    """Limits and use of the transaction's tenant; plain requests of the last second may be missing."""
    quota, used = await quota_in(work, settings), await figures(work)
    return QuotaSnapshot.of(quota, used.day, used.month)


async def describe(call: CallContext) -> TenantQuotaOut:
    """The limits of the tenant that the request names."""
    return TenantQuotaOut.of(call.tenant_id, await quota_in(call.db, call.of(Settings)))


async def change(call: CallContext, body: TenantQuotaPatch) -> TenantQuotaOut:
    """Set or unset limits for this tenant alone."""
    before = await repository.locked(call.db)
    given = {name: getattr(body, name) for name in body.model_fields_set}
    await repository.save(call.db, replace(before, **given), call.principal.subject_id)
    await call.announce(CHANGED, call.tenant_id)
    call.about(Resource.QUOTA, call.tenant_id)
    call.record(by_tenant=call.principal.tenant_id, set=given, before={name: getattr(before, name) for name in given})
    return await describe(call)


def caps(quota: Quota, *, month_usd: Decimal | None = None, counted: bool = False) -> Caps:
    """The quota as the ledger takes it. `counted`: Redis has decided about the units already."""
    return Caps(quota.day_units, quota.month_units, quota.day_tokens, quota.month_tokens, month_usd, quota.hard, counted)


def exceeded(period: PeriodName, limit: int, used: int, counted: str = "units") -> ApiError:
    """The refusal beyond a hard cap."""
    return ApiError(
        ErrorCode.QUOTA_EXCEEDED,
        f"{_SAID[period]} {_COUNTED[counted]} quota exceeded",
        {"period": period, "limit": limit, "used": used, "remaining": max(0, limit - used)},
    )


def watch(call: CallContext, quota: Quota, day: tuple[int, int], month: tuple[int, int]) -> None:
    """Have it told that a soft cap was reached, or a cap that only observes exceeded: once for each period.

    For each request that was counted; `day` and `month` are the units and tokens used after that (tokens 0 where they are not known).
    Where nothing is to be told it costs comparisons.
    """
    quotas, tenant_id, now = call.of(Quotas), call.tenant_id, clock.now()
    news = [
        (what, period, starts_on, counted, limit, used)
        for period, starts_on, counted, limit, used in _limited(quota, now.date(), day, month)
        for what, threshold in _THRESHOLDS
        if used >= threshold(quota, limit) and not quotas.was_told(tenant_id, what, period, starts_on)
    ]
    if not news:
        return

    async def tell(outcome: Outcome) -> None:
        if outcome.status >= 400 or outcome.replayed:
            return  # what it took was given back
        try:
            # Not within the request's own transaction: rows of usage are locked briefly.
            async with call.of(Database).work(tenant_id) as work:
                for what, period, _, counted, limit, used in news:
                    if await note_once(work, what, period, now):  # a stream may end in the next period
                        await _tell(call, work, what, {"period": period, "counted": counted, "limit": limit, "used": used})
        except (ApiError, asyncpg.PostgresError) as error:
            log.warning("quota.untold", tenant=tenant_id, error=type(error).__name__)
        else:
            for what, period, starts_on, *_ in news:
                quotas.tell(tenant_id, what, period, starts_on)

    call.on_over(tell)


def _limited(quota: Quota, today: date, day: tuple[int, int], month: tuple[int, int]) -> Iterator[tuple[PeriodName, date, str, int, int]]:
    """What has a limit: period, its first day, what is counted, limit, used. The month comes first, since it is locked first."""
    for period, starts_on, limits, used in (
        ("month", today.replace(day=1), (quota.month_units, quota.month_tokens), month),
        ("day", today, (quota.day_units, quota.day_tokens), day),
    ):
        for counted, limit, amount in zip(("units", "tokens"), limits, used, strict=True):
            if limit is not None:
                yield period, starts_on, counted, limit, amount  # type: ignore[misc]  # the names of periods


async def _tell(call: CallContext, work: Work, what: Noted, told: dict[str, Any]) -> None:
    """The audit event and the billing webhook, in this transaction."""
    event = EventType.QUOTA_SOFT_CAP_REACHED if what == "soft_cap" else EventType.QUOTA_OVERAGE_OBSERVED
    await audit.write(call, work, event, told)
    await webhooks.tell(call.resources, work, event.value, {"tenant_id": call.tenant_id, **told})
