"""The job that delivers one event: tried for a quarter of an hour or so, each time after a longer pause."""

from nexusrag.billing.webhooks.delivery import Event, deliver
from nexusrag.infra.database import Work
from nexusrag.infra.jobs import Job, TemporaryFailure
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.security.audit.facade import write_system

KIND = "billing.webhook"
ATTEMPTS = 10


async def send(job: Job) -> None:
    """Deliver it. A receiver may hear of it twice, when this process dies between its answer and the end of the job."""
    delivery = await deliver(job.resources, event_of(job))
    if not delivery.sent:
        raise TemporaryFailure(delivery.message)


async def give_up(job: Job, work: Work, reason: str) -> None:
    """Nobody took it: the tenant's log says so, with what is needed to send it by hand."""
    event = event_of(job)
    told = {"event": event.type, "delivery_id": event.delivery_id, "attempts": job.attempt, "reason": reason[:500]}
    await write_system(
        work,
        EventType.BILLING_WEBHOOK_FAILURE,
        told,
        about=(Resource.BILLING_WEBHOOK, event.delivery_id),
        error=ErrorCode.INTEGRATION_UNAVAILABLE,
    )


def event_of(job: Job) -> Event:
    return Event(job.args["event"], job.args["delivery_id"], job.tenant_id, job.args["occurred_at"], job.args["data"])
