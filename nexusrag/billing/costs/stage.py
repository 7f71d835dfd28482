"""The cost stage: what the month has cost is told with every answer; what a spent budget forbids is refused, or made cheaper."""

from nexusrag.billing.costs.service.spending import FEATURES, budget_exceeded, record_once, standing_of
from nexusrag.kernel.actions import Action
from nexusrag.settings import Settings
from nexusrag.settings.costs import CostSettings
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.limits import Limits
from nexusrag.web.stage import Stage

# What spends: models are asked for it, now or by a job.
SPENDING = frozenset({Action.RUNS_CREATE, Action.CORPORA_SEARCH, Action.DOCUMENTS_CREATE, Action.DOCUMENTS_REINDEX})


async def check(call: CallContext) -> None:
    """Raises COST_BUDGET_EXCEEDED for what spends, once a budget that blocks is spent. A run that was accepted is never stopped here."""
    settings = call.of(Settings).costs
    if not settings.cost_governance_enabled or not FEATURES & call.principal.features:
        return
    if call.acting_in is not None:  # what another tenant spends is told to its own admins alone
        return
    standing = await standing_of(call.resources, call.db)
    spends = call.gate.action in SPENDING and not _is_repeated(call)
    # A run's reservation is the exact guard, unless figures that are seconds old would refuse it already; all else that spends is asked
    # for exactly where there is something to guard.
    if spends and standing.budget.cap is not None and (call.gate.action is not Action.RUNS_CREATE or standing.status == "capped"):
        standing = await standing_of(call.resources, call.db, anew=True)
    call.headers.update(standing.headers())
    if not spends:
        return
    match standing.status:
        case "capped":
            raise await budget_exceeded(call, standing)
        case "degraded":
            taken = degrade(call.limits, settings)
            call.notices.append(("cost.warn", {**standing.figures(), "actions": taken}))
            await record_once(call, "degraded", standing, actions=taken)
        case "warn":
            call.notices.append(("cost.warn", standing.figures()))
            await record_once(call, "warned", standing)


def degrade(limits: Limits, settings: CostSettings) -> list[str]:
    """What a spent budget takes from a request, in this order: audio, passages, outside retrieval, length of the answer."""
    taken = []
    if settings.cost_degrade_enable_tts_disable:
        limits.tighten(audio=False)
        taken.append("audio")
    limits.tighten(top_k=settings.cost_degrade_min_top_k)
    limits.tighten(local_only=True)
    limits.tighten(max_output_tokens=settings.cost_degrade_max_output_tokens)
    return [*taken, "top_k", "local_retrieval", "output_tokens"]


def _is_repeated(call: CallContext) -> bool:
    """Whether a run is only followed once more, which costs nothing."""
    return call.run_id is not None or (call.gate.action is Action.RUNS_CREATE and "last-event-id" in call.request.headers)


def _needed(gate: Gate, method: str) -> bool:
    return gate.action is not None and gate.action is not Action.SCIM_PROVISION


STAGE = Stage("cost", check, _needed)
