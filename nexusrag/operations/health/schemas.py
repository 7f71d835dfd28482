"""Health on the wire."""

from typing import Any, Literal

from pydantic import BaseModel

State = Literal["ok", "degraded"]


class HealthOut(BaseModel):
    status: str


class BreakerOut(BaseModel):
    """A circuit breaker that has seen failures. `open` refuses calls for `retry_after_s` more; `half_open` tries one at a time.

    `failures` are those in a row of a `closed` one.
    """

    integration: str
    state: Literal["closed", "open", "half_open"]
    retry_after_s: int
    failures: int


class OpsHealthOut(BaseModel):
    """`degraded` names what is away, an outside system that the caller's tenant cannot reach included."""

    status: State
    degraded: list[str]
    db: State
    redis: State
    worker: State
    worker_heartbeat_age_s: float | None
    queue_depth: int | None
    breakers: list[BreakerOut]
    time: str


class OpsIngestionOut(BaseModel):
    """Ingestion of the caller's tenant over the last `hours`; null where the database is away."""

    hours: int
    status: State
    queue_depth: int | None
    oldest_queued_age_s: float | None
    documents: dict[str, int] | None
    p50_duration_s: float | None
    p95_duration_s: float | None
    failures: list[dict[str, Any]] | None


class OpsMetricsOut(BaseModel):
    """A snapshot of this process's counters, by metric name."""

    counters: dict[str, float]
    gauges: dict[str, float]
