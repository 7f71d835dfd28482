"""Use cases of health. Each dependency is asked with a short limit; one that is away is named, never an error."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nexusrag.infra.database import Database, Work
from nexusrag.infra.integrations import Integrations
from nexusrag.infra.metrics import REGISTRY
from nexusrag.infra.redis import Redis
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError
from nexusrag.operations.health import gates, repository
from nexusrag.operations.health.schemas import BreakerOut, OpsHealthOut, OpsIngestionOut, OpsMetricsOut, State
from nexusrag.security.audit.facade import write
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

T = TypeVar("T")
_LIMIT_S = 1.5


async def ops_health(call: CallContext) -> OpsHealthOut:
    """What is up and what is away."""
    settings = call.of(Settings).ingestion

    async def look(work: Work) -> tuple[float | None, int]:
        await write(call, work, gates.VIEWED, {"path": call.request.url.path})
        row = await repository.depth(work, settings.ingest_queue_name)
        return await repository.heartbeat_age_s(work), row["queued"]

    standing = call.of(Integrations).standing(call.tenant_id)
    seen, redis_up, breakers = await asyncio.gather(_ask(call, look), call.of(Redis).ping(), standing)
    age, queued = seen if seen is not None else (None, None)
    worker_up = age is not None and age <= settings.worker_heartbeat_stale_after_s
    states: dict[str, bool] = {"db": seen is not None, "redis": redis_up, "worker": worker_up}
    away = [name for name, up in states.items() if not up]
    away += [one.integration for one in breakers if one.state == "open"]
    return OpsHealthOut(
        status="degraded" if away else "ok",
        degraded=away,
        db=_state(states["db"]),
        redis=_state(states["redis"]),
        worker=_state(worker_up),
        worker_heartbeat_age_s=age,
        queue_depth=queued if redis_up else None,
        breakers=[
            BreakerOut(integration=one.integration, state=one.state, retry_after_s=one.retry_after_s, failures=one.failures)
            for one in breakers
        ],
        time=clock.iso(clock.now()) or "",
    )


async def ops_ingestion(call: CallContext, hours: int) -> OpsIngestionOut:
    """How ingestion went for the caller's tenant."""
    queue = call.of(Settings).ingestion.ingest_queue_name

    async def look(work: Work) -> OpsIngestionOut:
        await write(call, work, gates.VIEWED, {"path": call.request.url.path})
        depth = await repository.depth(work, queue)
        times = await repository.durations(work, hours)
        return OpsIngestionOut(
            hours=hours,
            status="ok",
            queue_depth=depth["queued"],
            oldest_queued_age_s=None if depth["oldest_age_s"] is None else max(depth["oldest_age_s"], 0.0),  # some wait for their time
            documents=await repository.documents_by_status(work, hours),
            p50_duration_s=times["p50"],
            p95_duration_s=times["p95"],
            failures=await repository.failures(work, hours),
        )

    seen = await _ask(call, look)
    if seen is not None:
        return seen
    return OpsIngestionOut(
        hours=hours,
        status="degraded",
        queue_depth=None,
        oldest_queued_age_s=None,
        documents=None,
        p50_duration_s=None,
        p95_duration_s=None,
        failures=None,
    )


def ops_metrics() -> OpsMetricsOut:
    """The process's own counters, without the labels' help."""
    counters: dict[str, float] = {}
    gauges: dict[str, float] = {}
    for family in REGISTRY.collect():
        into = gauges if family.type == "gauge" else counters
        for sample in family.samples:
            if sample.name.endswith(("_bucket", "_created")):
                continue
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            into[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return OpsMetricsOut(counters=counters, gauges=gauges)


async def _ask(call: CallContext, question: Callable[[Work], Awaitable[T]]) -> T | None:
    try:
        async with asyncio.timeout(_LIMIT_S), call.of(Database).work(call.tenant_id) as work:
            return await question(work)
    except (ApiError, TimeoutError):
        return None


def _state(up: bool) -> State:
    return "ok" if up else "degraded"
