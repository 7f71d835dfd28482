"""Prometheus metrics. Labels never hold tenant, user or document ids; names follow promtool's rules."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

REGISTRY = CollectorRegistry()
CONTENT_TYPE = CONTENT_TYPE_LATEST

REQUESTS = Counter(
    "nexusrag_http_requests_total",
    "HTTP requests by route template and status.",
    ["method", "route", "status"],
    registry=REGISTRY,
)
RUNS = Counter("nexusrag_runs_total", "Runs by how they ended.", ["state"], registry=REGISTRY)
RUNS_ACTIVE = Gauge("nexusrag_runs_active", "Runs in progress in this process.", registry=REGISTRY)
RUN_FIRST_EVENT = Histogram(
    "nexusrag_run_first_token_seconds",
    "Time from acceptance to the first token.",
    registry=REGISTRY,
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
RUN_DURATION = Histogram(
    "nexusrag_run_duration_seconds",
    "Time from acceptance to the end of a run.",
    registry=REGISTRY,
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)
RETRIEVAL = Histogram(
    "nexusrag_retrieval_duration_seconds",
    "Time of the retrieval statement.",
    registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
JOBS = Counter("nexusrag_jobs_total", "Jobs finished by this process, by kind and outcome.", ["kind", "outcome"], registry=REGISTRY)
QUEUE_DEPTH = Gauge("nexusrag_queue_depth_jobs", "Jobs waiting in a queue when last looked at.", ["queue"], registry=REGISTRY)
WAKE_UP_FAILURES = Counter(
    "nexusrag_wake_up_failures_total", "Wake-ups that could not be sent; workers look by themselves.", registry=REGISTRY
)


def render() -> bytes:
    """The text that /v1/metrics answers."""
    return generate_latest(REGISTRY)
