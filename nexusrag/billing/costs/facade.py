"""What other domains may ask of costs.

    prices = await prices_of(resources, work)        the tenant of `work`; kept per process, so as a rule without a statement
    lines = priced(prices, [Metered(component="llm", provider="openai", model="gpt-4o", input_tokens=…, output_tokens=…)], clock.now())
    usd = total(lines)                               for a reservation: the most that may be used, by the same function
    cap = await cap_of(call)                         for Caps.month_usd: None unless a budget blocks
    raise await budget_exceeded(call)                402, with the event on record, when a reservation was refused for money
    await note_reservation(call, figures, usd)       after a reservation: the headers of the answer count it
    await charge_now(resources, work, …)             priced and charged at once, for what has no reservation
    is_known_free(resources, tenant_id, metered)     whether a job needs no transaction for the next line
    if not await hold(resources, work, …): …         a job, before it spends: reserved, or False where a budget that blocks forbids it,
    await record_cap(resources, work)                    which goes on record in a transaction of its own
    await settle_held(resources, work, …)            and when it is done; a job that is given up settles with the ledger for nothing
    async with best_effort(resources, tenant_id): …  metering that fails is on record and never the request's failure

Providers are named as in the settings (LLM_PROVIDER and so on; `local_pgvector` for our own index). A run settles its llm, the
embedding of its question, its retrieval, and its speech (`component="tts"`, `characters=len(text)`) in one go.
`call.notices` are events that a run emits right after `request.accepted`, such as `cost.warn`; `call.limits` are to be obeyed.
"""

from nexusrag.billing.costs.budgets import Budget
from nexusrag.billing.costs.metering import Metered, priced, total
from nexusrag.billing.costs.prices import Prices
from nexusrag.billing.costs.service.charging import PATIENCE, best_effort, charge_now, hold, is_free, is_known_free, settle_held
from nexusrag.billing.costs.service.spending import budget_exceeded, budget_of, cap_of, note_reservation, prices_of, record_cap

__all__ = [
    "PATIENCE",
    "Budget",
    "Metered",
    "Prices",
    "best_effort",
    "budget_exceeded",
    "budget_of",
    "cap_of",
    "charge_now",
    "hold",
    "is_free",
    "is_known_free",
    "note_reservation",
    "priced",
    "prices_of",
    "record_cap",
    "settle_held",
    "total",
]
