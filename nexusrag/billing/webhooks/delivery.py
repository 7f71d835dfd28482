"""One delivery: the body, its signature and headers, and what the other side said."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from nexusrag.infra.outbound import Outbound, OutboundError
from nexusrag.infra.resources import Resources
from nexusrag.infra.retries import of_status
from nexusrag.kernel import clock
from nexusrag.settings import Settings

INTEGRATION = "billing.webhook"
# There is one receiver for all tenants, and so one breaker.
_ALL_TENANTS = "*"
_READ_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """What is told. The same event keeps its `delivery_id`, by which a receiver knows it again."""

    type: str
    delivery_id: str
    tenant_id: str
    occurred_at: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How it went. `status` is None where nobody answered."""

    status: int | None
    message: str

    @property
    def sent(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def signature(secret: str, body: bytes) -> str:
    """`X-Billing-Signature`: HMAC-SHA-256 of exactly these bytes, in hexadecimal."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def deliver(resources: Resources, event: Event) -> Delivery:
    """POST the event. Raises INTEGRATION_UNAVAILABLE, before anything is sent, while the receiver's circuit breaker is open."""
    settings, outbound = resources.get(Settings).billing, resources.get(Outbound)
    sent_at = clock.now()
    body = orjson.dumps(
        {
            "event": event.type,
            "delivery_id": event.delivery_id,
            "tenant_id": event.tenant_id,
            "occurred_at": event.occurred_at,
            "sent_at": clock.iso(sent_at),  # under the signature, so that a receiver can refuse what is played to it again
            "data": dict(event.data),
        }
    )
    headers = {
        "Content-Type": "application/json",
        "X-Billing-Event": event.type,
        "X-Billing-Delivery": event.delivery_id,
        "X-Billing-Timestamp": str(int(sent_at.timestamp())),
        "X-Billing-Signature": signature(settings.billing_webhook_secret.get_secret_value(), body),
    }
    timeout_s = settings.billing_webhook_timeout_ms / 1000
    # Tried again by its job, seconds and minutes later, and not at once.
    async with outbound.integrations.calling(INTEGRATION, _ALL_TENANTS, timeout_s, attempts=1).attempt() as attempt:
        try:
            status, _ = await outbound.post_bytes(settings.billing_webhook_url, body, headers, timeout_s, read_limit=_READ_LIMIT)
        except OutboundError as error:
            attempt.failed(error.verdict)
            return Delivery(error.status, f"The webhook could not be called: {error}.")
        if not 200 <= status < 300:
            attempt.failed(of_status(status))
            return Delivery(status, f"The webhook answered {status}.")
    return Delivery(status, f"The webhook answered {status}.")
