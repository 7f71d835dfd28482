"""What other domains may ask of billing webhooks."""

from collections.abc import Mapping
from typing import Any

from nexusrag.billing.webhooks.jobs import ATTEMPTS, KIND
from nexusrag.infra.database import Work
from nexusrag.infra.jobs import enqueue
from nexusrag.infra.resources import Resources
from nexusrag.kernel import clock
from nexusrag.kernel.ids import new_id
from nexusrag.settings import Settings

__all__ = ["tell"]


async def tell(resources: Resources, work: Work, event_type: str, payload: Mapping[str, Any]) -> None:
    """Tell the outside billing system of an event of the transaction's tenant, once the transaction is committed.

    `payload` holds figures and ids, no secrets and no words of documents. Without a webhook nothing is done.
    """
    settings = resources.get(Settings)
    if not settings.billing.billing_webhook_enabled:
        return
    args = {"event": event_type, "delivery_id": new_id("whd"), "occurred_at": clock.iso(clock.now()), "data": dict(payload)}
    await enqueue(work, KIND, args, queue=settings.ingestion.ingest_queue_name, max_attempts=ATTEMPTS)
