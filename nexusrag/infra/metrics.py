"""Prometheus metrics. Labels never hold tenant, user or document ids; names follow promtool's rules."""

from functools import lru_cache
from time import monotonic

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
ADMISSION_REFUSALS = Counter(
    "nexusrag_admission_refusals_total",
    "Requests refused by a rate, a tenant's places or its quota, by what refused and class of route.",
    ["scope", "route_class"],
    registry=REGISTRY,
)
OUTSIDE_CALLS = Counter(
    "nexusrag_outside_calls_total",
    "Attempts at calls to outside systems: ok, failed, refused (by a fault of ours), unknown (left before the end).",
    ["integration", "outcome"],
    registry=REGISTRY,
)
OUTSIDE_RETRIES = Counter(
    "nexusrag_outside_retries_total",
    "Second and further attempts, and those that the budget denied.",
    ["integration", "outcome"],
    registry=REGISTRY,
)
SLOT_WAIT = Histogram(
    "nexusrag_model_slot_wait_seconds",
    "Waits for a place among the model calls of all processes.",
    registry=REGISTRY,
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30),
)
SHED = Counter(
    "nexusrag_shed_requests_total",
    "Requests refused to protect others: by a policy, by an operator's flag, or by a process that cannot keep up.",
    ["reason", "route_class"],
    registry=REGISTRY,
)
IN_FLIGHT = Gauge("nexusrag_requests_in_flight", "Requests whose answer has not begun, in this process.", registry=REGISTRY)
IN_FLIGHT_LIMIT = Gauge("nexusrag_requests_in_flight_limit", "How many of them this process takes at present.", registry=REGISTRY)
DATABASE_WAIT = Gauge(
    "nexusrag_database_wait_seconds", "Standing wait for a connection to the database when last looked at.", registry=REGISTRY
)
TURN_WAIT = Counter(
    "nexusrag_turn_wait_seconds_total",
    "Seconds that requests of tenants ahead of their rate let those of others go first.",
    registry=REGISTRY,
)
LOOP_LAG = Gauge("nexusrag_loop_lag_seconds", "Standing delay of this process's loop when last looked at.", registry=REGISTRY)


def render() -> bytes:
    """The text that /v1/metrics answers, up to a second old: it takes milliseconds to write, and anybody may ask."""
    return _rendered(int(monotonic()))


@lru_cache(maxsize=1)
def _rendered(second: int) -> bytes:
    return generate_latest(REGISTRY)
