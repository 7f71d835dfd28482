"""Use cases of billing webhooks."""

from nexusrag.billing.webhooks.delivery import Delivery, Event, deliver
from nexusrag.billing.webhooks.schemas import WebhookTested
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def test(call: CallContext) -> WebhookTested:
    """Send a test event now, and say what came back. Raises BILLING_WEBHOOK_NOT_CONFIGURED."""
    if not call.of(Settings).billing.billing_webhook_enabled:
        raise ApiError(ErrorCode.BILLING_WEBHOOK_NOT_CONFIGURED, "No billing webhook is configured; see BILLING_WEBHOOK_URL.")
    event = Event(EventType.BILLING_WEBHOOK_TEST, new_id("whd"), call.tenant_id, clock.iso(clock.now()) or "", {"test": True})
    async with call.outside_work():  # nothing holds a connection while the receiver thinks
        delivery = await _deliver(call, event)
    told = {"delivery_id": event.delivery_id, "sent": delivery.sent, "status_code": delivery.status}
    call.about(Resource.BILLING_WEBHOOK, event.delivery_id)
    call.record(**told)
    call.also_record(EventType.BILLING_WEBHOOK_TEST, **told)
    return WebhookTested(sent=delivery.sent, status_code=delivery.status, delivery_id=event.delivery_id, message=delivery.message)


async def _deliver(call: CallContext, event: Event) -> Delivery:
    try:
        return await deliver(call.resources, event)
    except ApiError as error:
        if error.code is not ErrorCode.INTEGRATION_UNAVAILABLE:
            raise
        return Delivery(None, error.message)
