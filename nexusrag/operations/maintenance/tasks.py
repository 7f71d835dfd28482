"""The tasks there are: what each removes, how long that is kept, and those that only a later release will know."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nexusrag.billing.ledger import facade as ledger
from nexusrag.infra.database import Work
from nexusrag.knowledge.corpora.facade import REMOVE
from nexusrag.knowledge.documents.facade import INGEST
from nexusrag.operations.maintenance import repository
from nexusrag.settings.maintenance import MaintenanceSettings

BATCH = 5_000
# A stored answer is kept a while longer than it is replayed, so that no clock and no long transaction meets one that is going.
_GRACE_S = 3600.0
# What people start, from the console or not, and may ask about; whatever else there is, the product does by itself.
_ACTIONS = [INGEST, REMOVE]
Batch = Callable[[Work, MaintenanceSettings], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Task:
    """`remove` takes up to BATCH rows and says how many; `days` is how long they are kept, None where the rows themselves say so."""

    name: str
    remove: Batch
    days: Callable[[MaintenanceSettings], int] | None = None


async def _idempotency(work: Work, settings: MaintenanceSettings) -> int:
    return await repository.prune_idempotency(work, _GRACE_S, BATCH)


async def _audit(work: Work, settings: MaintenanceSettings) -> int:
    return await repository.prune_audit(work, settings.audit_retention_days, BATCH)


async def _actions(work: Work, settings: MaintenanceSettings) -> int:
    return await repository.prune_jobs(work, _ACTIONS, settings.ui_action_retention_days, BATCH, others=False)


async def _jobs(work: Work, settings: MaintenanceSettings) -> int:
    return await repository.prune_jobs(work, _ACTIONS, settings.job_retention_days, BATCH, others=True)


async def _usage(work: Work, settings: MaintenanceSettings) -> int:
    return await ledger.prune(work, settings.usage_counter_retention_days)


# Runs, messages and documents are their tenants' own: nothing here removes them. The journal goes with its days, by its own clock.
TASKS = {
    task.name: task
    for task in (
        Task("prune_idempotency", _idempotency),
        Task("prune_audit", _audit, lambda settings: settings.audit_retention_days),
        Task("cleanup_actions", _actions, lambda settings: settings.ui_action_retention_days),
        Task("prune_usage", _usage, lambda settings: settings.usage_counter_retention_days),
        Task("prune_jobs", _jobs, lambda settings: settings.job_retention_days),
    )
}
LATER = frozenset({
    "backup_create_scheduled", "backup_prune_retention", "restore_drill_scheduled", "compliance_evaluate_scheduled",
    "compliance_bundle_periodic", "compliance_prune_old_evidence",
})  # fmt: skip
