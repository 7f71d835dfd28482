"""Quotas on the wire."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nexusrag.billing.ledger.facade import Used
from nexusrag.billing.quotas.limits import Quota

_MOST = 1_000_000_000_000
Limit = Annotated[int | None, Field(ge=0, le=_MOST, strict=True)]


class QuotaWindow(BaseModel):
    """Request units of one UTC day or month; without a limit, `limit` and `remaining` are null."""

    limit: int | None = None
    used: int = 0
    remaining: int | None = None

    @classmethod
    def of(cls, limit: int | None, used: int) -> "QuotaWindow":
        return cls(limit=limit, used=used, remaining=None if limit is None else max(0, limit - used))


class QuotaSnapshot(BaseModel):
    """What the tenant may use and has used, runs under way included."""

    day: QuotaWindow
    month: QuotaWindow
    soft_cap_reached: bool
    hard_cap_mode: Literal["enforce", "observe"]

    @classmethod
    def of(cls, quota: Quota, day: Used, month: Used) -> "QuotaSnapshot":
        return cls(
            day=QuotaWindow.of(quota.day_units, day.units),
            month=QuotaWindow.of(quota.month_units, month.units),
            soft_cap_reached=quota.reaches_soft_cap(day.units, month.units),
            hard_cap_mode=quota.mode,
        )


class TenantQuotaOut(BaseModel):
    """The limits in force; null: none."""

    tenant_id: str
    daily_requests_limit: int | None
    monthly_requests_limit: int | None
    daily_tokens_limit: int | None
    monthly_tokens_limit: int | None
    soft_cap_ratio: float
    hard_cap_enabled: bool

    @classmethod
    def of(cls, tenant_id: str, quota: Quota) -> "TenantQuotaOut":
        return cls(
            tenant_id=tenant_id,
            daily_requests_limit=quota.day_units,
            monthly_requests_limit=quota.month_units,
            daily_tokens_limit=quota.day_tokens,
            monthly_tokens_limit=quota.month_tokens,
            soft_cap_ratio=quota.soft_cap_ratio,
            hard_cap_enabled=quota.hard,
        )


class TenantQuotaPatch(BaseModel):
    """What is given is set for this tenant alone; null leaves it to the plan again."""

    model_config = ConfigDict(extra="forbid")
    daily_requests_limit: Limit = None
    monthly_requests_limit: Limit = None
    daily_tokens_limit: Limit = None
    monthly_tokens_limit: Limit = None
    soft_cap_ratio: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    hard_cap_enabled: Annotated[bool | None, Field(strict=True)] = None
