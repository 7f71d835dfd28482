"""Closes the journals of runs whose process went away: error RUN_INTERRUPTED, then done, numbered behind all it may have shown."""

from typing import Any

import structlog

from nexusrag.agents.runs import repository
from nexusrag.agents.runs.live import MAX_SEQ, answer_in, channel, delta_in, render
from nexusrag.agents.runs.metering import Spent, meter_of
from nexusrag.agents.speech.facade import Speaker, Spoken
from nexusrag.billing.ledger.facade import entry
from nexusrag.inference.gateway.facade import Gateway, Usage
from nexusrag.infra.database import Database, Work
from nexusrag.infra.metrics import RUNS
from nexusrag.infra.redis import Redis
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ErrorCode

log = structlog.get_logger(__name__)
_BATCH = 50


async def close_abandoned(resources: Resources) -> None:
    """Take over what nobody renews and write its end. Raising the epoch keeps a process that wakes up from writing on."""
    database = resources.get(Database)
    async with database.work(None) as work:
        rows = await repository.take_abandoned(work, _BATCH)
    for row in rows:
        async with database.work(row["tenant_id"]) as work:
            run = await repository.find(work, row["id"])
            if run is None or run["state"] != "running" or run["epoch"] != row["epoch"]:
                continue
            told = {"code": ErrorCode.RUN_INTERRUPTED.value, "message": "The process that ran it went away; ask again."}
            events = [
                (seq, render(row["id"], run["request_id"], run["session_id"], seq, event, data))
                for seq, event, data in ((MAX_SEQ - 1, "error", told), (MAX_SEQ, "done", {}))
            ]
            spent = await _spent(resources, work, run)
        mine = await repository.finish(
            database,
            row["tenant_id"],
            row["id"],
            row["epoch"],
            state="interrupted",
            receipt=run["receipt"] or {},
            error_code=ErrorCode.RUN_INTERRUPTED.value,
            events=events,
            document_ids=None,
            messages=[],
            spent=spent,
        )
        if not mine:
            continue
        RUNS.labels("interrupted").inc()
        log.warning("run.interrupted", run=row["id"])
        await resources.get(Redis).publish(channel(row["id"]))


async def _spent(resources: Resources, work: Work, run: Any) -> Spent:
    """What a dead run used, as far as its journal tells: tokens that were received, and the prompt as it was estimated."""
    gateway, meter = resources.get(Gateway), await meter_of(resources, work)
    if run["document_ids"] is not None:
        meter.embed(run["question"])
        meter.searches = 1
    events = [payload for _, payload in await repository.events_after(work, run["id"], run["day"], 0)]
    said = [text for payload in events if (text := delta_in(payload))]
    # An answer is told before the run's end only to be spoken meanwhile.
    answer = "".join(map(answer_in, events))
    meter.spoken = Spoken(len(resources.get(Speaker).said(answer)))
    reserved = await entry(work, run["id"])
    if not said or reserved is None:
        return meter.of([], unsure=True)
    read = max(0, reserved["held_tokens"] - gateway.max_output_tokens)
    return meter.of([Usage(read, gateway.tokens_in(len(said), sum(map(len, said))), estimated=True)])


async def roll_partitions(resources: Resources) -> None:
    """Tomorrow's journal exists before tomorrow; days that ended long enough ago are dropped."""
    # Everybody who writes events queues behind whoever waits for the table itself: better to come again than to wait long.
    async with resources.get(Database).work(None, options={"lock_timeout": "1000"}) as work:
        await work.raw.execute("select partitions_roll(interval '1 day')")
