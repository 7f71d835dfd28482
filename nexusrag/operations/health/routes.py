"""HTTP face of health: /v1/health, /v1/metrics, /v1/ops/*."""

from typing import Annotated

from fastapi import Query, Response

from nexusrag.infra import metrics
from nexusrag.operations.health import gates, service
from nexusrag.operations.health.schemas import HealthOut, OpsHealthOut, OpsIngestionOut, OpsMetricsOut
from nexusrag.web.call import Call
from nexusrag.web.router import Router

root = Router("", tag="Health")
ops = Router("ops", tag="Operations")


@root.get("/health", gate=gates.ALIVE)
async def health(call: Call) -> HealthOut:
    """Whether this process answers."""
    return HealthOut(status="ok")


@root.get("/healthz", gate=gates.ALIVE)
async def healthz(call: Call) -> HealthOut:
    """Whether this process answers, under the other customary name."""
    return HealthOut(status="ok")


@root.get("/metrics", gate=gates.METRICS, media_type="text/plain")
async def prometheus(call: Call) -> Response:
    """Metrics for Prometheus."""
    return Response(metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})


@ops.get("/health", gate=gates.OPS)
async def ops_health(call: Call) -> OpsHealthOut:
    """Dependencies, workers and queue; 200 with `degraded` when something is away."""
    return await service.ops_health(call)


@ops.get("/ingestion", gate=gates.OPS)
async def ops_ingestion(call: Call, hours: Annotated[int, Query(ge=1, le=720)] = 24) -> OpsIngestionOut:
    """How ingestion went in the last hours."""
    return await service.ops_ingestion(call, hours)


@ops.get("/metrics", gate=gates.OPS)
async def ops_metrics(call: Call) -> OpsMetricsOut:
    """A snapshot of this process's metrics as JSON."""
    return service.ops_metrics()
