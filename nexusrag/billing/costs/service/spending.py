"""Where a tenant stands between its budget and its spending, what headers say of it, and what is put on record."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import asyncpg
import structlog

from nexusrag.billing.costs import repository
from nexusrag.billing.costs.budgets import Budget, Status, month_of
from nexusrag.billing.costs.prices import Prices
from nexusrag.billing.costs.repository import Mark, Spent
from nexusrag.billing.costs.terms import SpendFigures, TermsCache
from nexusrag.billing.ledger.facade import Figures
from nexusrag.infra.database import Database, Work
from nexusrag.infra.resources import Resources
from nexusrag.kernel import clock, money
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.security.audit import facade as audit
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext, Outcome

log = structlog.get_logger(__name__)
# A plan that has either knows its costs; one that has neither is told nothing and held to nothing.
FEATURES = frozenset({Feature.COST_VISIBILITY, Feature.COST_CONTROLS})
_EVENTS: dict[Mark, EventType] = {
    "warned": EventType.COST_WARN_TRIGGERED,
    "capped": EventType.COST_CAP_TRIGGERED,
    "degraded": EventType.COST_DEGRADE_APPLIED,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A tenant in the current month: its budget, and what it has spent of it."""

    budget: Budget
    spent: Spent
    month: date

    @property
    def status(self) -> Status:
        return self.budget.status(self.spent.usd)

    def headers(self) -> dict[str, str]:
        """Of every answer. Without a budget there is none to name, and nothing remains of it."""
        remaining = self.budget.remaining(self.spent.usd)
        told = {
            "X-Cost-Month-Spend-Usd": money.text(self.spent.usd),
            "X-Cost-Status": self.status,
            "X-Cost-Estimated": str(self.spent.estimated).lower(),
        }
        if self.budget.limit is not None and remaining is not None:
            told["X-Cost-Month-Budget-Usd"] = money.text(self.budget.limit)
            told["X-Cost-Month-Remaining-Usd"] = money.text(remaining)
        return told

    def figures(self) -> dict[str, object]:
        """The same for an event or a record."""
        remaining = self.budget.remaining(self.spent.usd)
        return {
            "status": self.status,
            "month": self.month.strftime("%Y-%m"),
            "month_budget_usd": _number(self.budget.limit),
            "month_spend_usd": _number(self.spent.usd),
            "month_remaining_usd": _number(remaining),
            "warn_ratio": float(self.budget.warn_ratio),
            "estimated": self.spent.estimated,
        }


async def prices_of(resources: Resources, work: Work) -> Prices:
    """What the tenant of `work` pays. As a rule without a statement."""
    return (await resources.get(TermsCache).of(work)).prices


async def budget_of(resources: Resources, work: Work) -> Budget:
    """The budget of the tenant of `work` in the current month, with nothing in it where costs are not governed."""
    budget = (await resources.get(TermsCache).of(work)).budget(clock.now())
    if resources.get(Settings).costs.cost_governance_enabled:
        return budget
    return Budget(None, budget.warn_ratio, False, budget.mode)


async def standing_of(resources: Resources, work: Work, *, anew: bool = False) -> Standing:
    """Where the tenant of `work` stands, by figures that are seconds old at most; `anew`: by those of the database."""
    budget = await budget_of(resources, work)
    return Standing(budget, await resources.get(SpendFigures).of(work, anew=anew), month_of(clock.now()))


async def cap_of(call: CallContext) -> Decimal | None:
    """What a reservation of the caller's tenant is held against (`Caps.month_usd`); None unless a budget of theirs blocks."""
    return (await budget_of(call.resources, call.db)).cap if FEATURES & call.principal.features else None


async def note_reservation(call: CallContext, figures: Figures, usd: Decimal) -> None:
    """`figures` are those after a reservation of `usd` for the request: this process knows them at once, and the answer says them."""
    month = figures.month
    held = call.of(SpendFigures).note(call.tenant_id, month.usd, month.starts_on, guessed=usd > 0)
    if "X-Cost-Status" in call.headers:
        status = call.headers["X-Cost-Status"]  # by which it was accepted
        standing = Standing(await budget_of(call.resources, call.db), held, month.starts_on)
        call.headers.update({**standing.headers(), "X-Cost-Status": status})


async def record_once(call: CallContext, what: Mark, standing: Standing, **more: object) -> None:
    """Put on record, in the request's transaction, what happens to a tenant for the first time in a month."""
    cache, key = call.of(TermsCache), (call.tenant_id, what, standing.month)
    if key in cache.marked:
        return
    if await repository.mark(call.db, what, standing.month):
        await audit.write(call, call.db, _EVENTS[what], {**standing.figures(), **more})

    async def known() -> None:
        cache.marked.add(key)

    call.after_commit(known)


async def budget_exceeded(call: CallContext, standing: Standing | None = None) -> ApiError:
    """The refusal of what the budget has nothing left for. It goes on record once the request's transaction is rolled back."""
    standing = standing or await standing_of(call.resources, call.db, anew=True)
    refused = standing

    async def record(outcome: Outcome) -> None:
        await _record_cap(call, refused)

    call.on_over(record)
    told = {name: value for name, value in standing.figures().items() if name != "warn_ratio"}
    headers = {**standing.headers(), "X-Cost-Status": "capped"}
    spent = standing.status == "capped"
    what = "The budget of this month is spent." if spent else "This may cost more than is left of this month's budget."
    return ApiError(
        ErrorCode.COST_BUDGET_EXCEEDED,
        f"{what} An admin may raise it: PATCH /v1/admin/costs/budget.",
        {**told, "status": "capped"},
        headers=headers,
    )


async def record_cap(resources: Resources, work: Work) -> None:
    """Put on record, in this transaction, that a job was refused for want of money: the first thing of the month that was."""
    standing = await standing_of(resources, work, anew=True)
    if await repository.mark(work, "capped", standing.month):
        await audit.write_system(work, _EVENTS["capped"], standing.figures(), error=ErrorCode.COST_BUDGET_EXCEEDED)


async def _record_cap(call: CallContext, standing: Standing) -> None:
    cache, key = call.of(TermsCache), (call.tenant_id, "capped", standing.month)
    if key in cache.marked:
        return
    try:
        async with call.of(Database).work(call.tenant_id) as work:
            if await repository.mark(work, "capped", standing.month):
                await audit.write(call, work, _EVENTS["capped"], standing.figures(), error=ErrorCode.COST_BUDGET_EXCEEDED)
    except (ApiError, asyncpg.PostgresError) as error:
        log.error("costs.cap_unwritten", error=type(error).__name__, request_id=call.request_id)
    else:
        cache.marked.add((call.tenant_id, "capped", standing.month))


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else float(money.shown(amount))
