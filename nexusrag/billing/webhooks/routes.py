"""HTTP face of billing webhooks: /v1/self-serve/billing/webhook-test."""

from nexusrag.billing.webhooks import gates, service
from nexusrag.billing.webhooks.schemas import WebhookTested
from nexusrag.web.call import Call
from nexusrag.web.router import Router

router = Router("self-serve/billing", tag="Billing")


@router.post("/webhook-test", gate=gates.TEST)
async def test_billing_webhook(call: Call) -> WebhookTested:
    """Send a test event to the billing webhook of this installation, signed like every other, and say what it answered."""
    return await service.test(call)
