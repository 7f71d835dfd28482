"""The budget of a tenant: as it is, and as its admins change it."""

from decimal import Decimal
from typing import Any

from nexusrag.billing.costs import repository
from nexusrag.billing.costs.budgets import Agreed, month_of
from nexusrag.billing.costs.schemas import BudgetChange, BudgetOut
from nexusrag.billing.costs.service.catalogue import exact_number
from nexusrag.billing.costs.service.spending import Standing
from nexusrag.billing.costs.terms import BUDGET, TermsCache
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.web.call import CallContext

_AMOUNTS = ("monthly_budget_usd", "current_month_override_usd")
_INVALID = ErrorCode.COST_INVALID_BUDGET_CONFIG


async def describe(call: CallContext) -> BudgetOut:
    """What was set, what follows from it, and where the month stands."""
    return await _told(call, await repository.budget(call.db))


async def change(call: CallContext, body: BudgetChange) -> BudgetOut:
    """Set what is given. Raises COST_INVALID_BUDGET_CONFIG for amounts below 0, a ratio that is none, or an unknown mode."""
    given = {name: await _value(call, body, name) for name in sorted(body.model_fields_set)}
    if not given:
        raise ApiError(_INVALID, "Give at least one field.")
    row = await repository.put_budget(call.db, given, month_of(clock.now()), call.principal.subject_id)
    await call.announce(BUDGET, call.tenant_id)
    call.about(Resource.COST, call.tenant_id)
    call.record(**{name: str(value) if isinstance(value, Decimal) else value for name, value in given.items()})
    return await _told(call, row)


async def _value(call: CallContext, body: BudgetChange, name: str) -> Any:
    value = getattr(body, name)
    if value is None or name == "enforce_hard_cap":
        return value
    if name == "hard_cap_mode":
        if value not in ("block", "degrade"):
            raise ApiError(_INVALID, "hard_cap_mode is block or degrade.", {"field": name})
        return value
    number = await exact_number(call, name, _INVALID)
    if name in _AMOUNTS and number < 0:
        raise ApiError(_INVALID, f"{name} must be at least 0.", {"field": name})
    if name == "warn_ratio" and not (0 < number <= 1 and round(number, 8) == number):
        raise ApiError(_INVALID, "warn_ratio must be more than 0 and at most 1, with at most 8 places.", {"field": name})
    return number


async def _told(call: CallContext, row: Any) -> BudgetOut:
    month = month_of(clock.now())
    agreed = repository.agreed(row) if row is not None else Agreed()
    terms = call.of(TermsCache).made(agreed, [])
    budget = terms.budget(clock.now())
    (spent,) = (await repository.spent(call.db, [call.tenant_id], month)).values()
    standing = Standing(budget, spent, month)
    return BudgetOut(
        tenant_id=call.tenant_id,
        monthly_budget_usd=agreed.monthly_usd,
        warn_ratio=float(budget.warn_ratio),
        enforce_hard_cap=budget.enforced,
        hard_cap_mode=budget.mode,
        current_month_override_usd=agreed.override_usd if agreed.override_month == month else None,
        created_at=row["created_at"] if row is not None else None,
        updated_at=row["updated_at"] if row is not None else None,
        month=month.strftime("%Y-%m"),
        month_budget_usd=budget.limit,
        month_spend_usd=spent.usd,
        month_remaining_usd=budget.remaining(spent.usd),
        status=standing.status,
    )
