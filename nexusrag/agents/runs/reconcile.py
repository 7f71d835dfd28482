"""Asks providers afterwards what a run took that was settled by estimate: one that was stopped, that broke off, or whose process died.

Only where the provider can be asked (LLM_USAGE_URL). Safe when several processes do it at once: each entry is given to one of them.
"""

from datetime import timedelta

import structlog

from nexusrag.agents.runs.metering import ANSWER, REWRITE, call_id, meter_of
from nexusrag.billing.ledger.facade import entry, estimates, settle
from nexusrag.inference.gateway.facade import Gateway, ModelError
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel.traffic import RouteClass
from nexusrag.settings import Settings

log = structlog.get_logger(__name__)
_WITHIN = timedelta(minutes=10)
_PAUSE = timedelta(seconds=5)
_BATCH = 100


async def correct_estimates(resources: Resources) -> None:
    """Those of the last minutes; what the provider does not know by then stays an estimate."""
    gateway, database = resources.get(Gateway), resources.get(Database)
    if not gateway.can_invoice:
        return
    async with database.work(None) as work:
        found = await estimates(work, RouteClass.RUN, _WITHIN, _PAUSE, _BATCH)
    # So long after its run was settled a call that the provider does not know was not made, rather than not closed yet.
    longest = min(timedelta(seconds=resources.get(Settings).llm.llm_total_timeout_s), _WITHIN / 2)
    for tenant_id, run_id in found:
        try:
            answer, rewrite = [await gateway.invoiced(call_id(run_id, which)) for which in (ANSWER, REWRITE)]
        except ModelError as error:
            log.warning("run.not_invoiced", run=run_id, reason=error.reason)
            return  # away for all of them
        usages = [usage for usage in (answer, rewrite) if usage is not None]
        if not usages:
            continue
        async with database.work(tenant_id) as work:
            settled = await entry(work, run_id)
            if answer is None and settled["settled_for"] < longest:
                continue
            # By the price of then: another one may be in force by now.
            spent = (await meter_of(resources, work)).of(usages, at=settled["settled_at"])
            await settle(work, run_id, spent.lines, tokens=spent.tokens, estimated=spent.estimated)
