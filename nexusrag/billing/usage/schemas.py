"""Usage on the wire."""

from datetime import date
from typing import Literal

from pydantic import BaseModel

from nexusrag.billing.plans.facade import TenantFeature
from nexusrag.billing.quotas.facade import QuotaSnapshot

Metric = Literal["requests", "runs", "tokens"]
Granularity = Literal["day", "hour"]


class PeriodUsageOut(BaseModel):
    """One UTC day or month. `requests_count` are request units; tokens are those of language models, runs under way with their estimate."""

    tenant_id: str
    period_type: Literal["day", "month"]
    period_start: date
    requests_count: int
    estimated_tokens_count: int


class Requests(BaseModel):
    """`total` are request units, of which a run takes three."""

    total: int
    runs: int
    tokens: int


class RateLimitHits(BaseModel):
    """Refusals by rates that are on record: at most one a minute for each credential, and one for the tenant's simultaneous requests.

    So it says how often clients ran into limits, and not how many requests were refused.
    """

    total: int


class Ingestion(BaseModel):
    """Documents that were indexed, and the tokens that had to be embedded for it."""

    documents: int
    embedding_tokens: int


class UsageSummaryOut(BaseModel):
    """The last `window_days` UTC days, today included."""

    window_days: int
    requests: Requests
    quota: QuotaSnapshot
    rate_limit_hits: RateLimitHits
    ingestion: Ingestion


class Point(BaseModel):
    """`ts`: where the day or hour begins, in UTC."""

    ts: str
    value: int


class UsageTimeseriesOut(BaseModel):
    """One point for each day or hour, the oldest first; where nothing was used, 0."""

    metric: Metric
    granularity: Granularity
    points: list[Point]


class OwnPlanOut(BaseModel):
    tenant_id: str
    plan_id: str
    plan_name: str | None
    entitlements: list[TenantFeature]
    quota: QuotaSnapshot
