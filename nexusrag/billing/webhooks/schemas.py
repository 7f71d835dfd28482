"""Billing webhooks on the wire."""

from pydantic import BaseModel


class WebhookTested(BaseModel):
    """`status_code` is null where nobody answered; `delivery_id` is what the receiver was given."""

    sent: bool
    status_code: int | None
    delivery_id: str
    message: str
