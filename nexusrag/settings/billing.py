"""What an outside billing system is told."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from nexusrag.settings.group import Group
from nexusrag.settings.llm import http_url


class BillingSettings(Group):
    billing_webhook_enabled: bool = Field(False, description="send billing events to a webhook")
    billing_webhook_url: str = Field("", description="where billing events are sent")
    billing_webhook_secret: SecretStr = Field(SecretStr(""), description="key of the HMAC that signs them")
    billing_webhook_timeout_ms: int = Field(2000, ge=50, le=60_000, description="longest wait for the webhook's answer")

    @field_validator("billing_webhook_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        http_url(value.split("?", 1)[0] or "http://none")
        return value

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.billing_webhook_enabled and not self.billing_webhook_url:
            raise ValueError("BILLING_WEBHOOK_URL: needed when BILLING_WEBHOOK_ENABLED=true")
        if self.billing_webhook_enabled and len(self.billing_webhook_secret.get_secret_value()) < 16:
            raise ValueError("BILLING_WEBHOOK_SECRET: needs at least 16 characters when BILLING_WEBHOOK_ENABLED=true")
        return self
