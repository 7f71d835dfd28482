"""How a run ends, in every case: its state, receipt, messages and last events in one transaction, and only then shown."""

import asyncio
from time import perf_counter
from typing import Any

import asyncpg
import structlog

from nexusrag.agents.runs import prompts, repository
from nexusrag.agents.runs.context import RunContext, RunState
from nexusrag.agents.runs.journal import Journal
from nexusrag.agents.runs.live import LiveRun, RunLost, channel
from nexusrag.agents.runs.revocation import REVOKED
from nexusrag.agents.speech.facade import Speaker
from nexusrag.inference.gateway.facade import Gateway
from nexusrag.infra.database import Database, contended
from nexusrag.infra.metrics import RUN_DURATION, RUNS
from nexusrag.infra.redis import Redis
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.knowledge.retrieval.facade import Passage

log = structlog.get_logger(__name__)
_STATES = {
    ErrorCode.RUN_CANCELLED: "cancelled",
    ErrorCode.AUTH_REVOKED_KEY: "cancelled",
    ErrorCode.RUN_INTERRUPTED: "interrupted",
}
# Audio was asked for, and a switch, a budget or a service level has taken it away.
_SILENT = {"code": ErrorCode.FEATURE_TEMPORARILY_DISABLED.value, "message": "Answers are not spoken at present; this is the text alone."}


async def succeed(context: RunContext, state: RunState) -> None:
    """The answer is complete: message.final, the audio if asked for, done."""
    live = context.live
    final = {
        "text": state["answer"],
        "citations": state["citations"],
        "grounded": state["grounded"],
        "checkpoint_id": live.run_id,
        "run_id": live.run_id,
        **({"reduced": context.reduced} if context.reduced else {}),
    }
    events: list[tuple[str, dict[str, Any]]] = [("message.final", final)]
    if context.audio:
        live.emit(*events.pop())
        events.append(await live.resources.get(Speaker).speak(live.principal.tenant_id, live.run_id, state["answer"], context.meter.spoken))
    elif "audio" in context.reduced:
        events.append(("audio.error", _SILENT))
    context.mark("finished")
    await _close(
        context,
        "succeeded",
        [*events, ("done", {})],
        receipt(context, state),
        messages=[("user", context.message), ("assistant", state["answer"])],
    )


async def fail(context: RunContext, error: BaseException) -> None:
    """Something broke or the run was stopped: error with its code, then done, to readers and journal alike.

    A run that is over already, or another process's, has its end in the journal: readers go on there. It may be our own end, if
    the answer to its commit was lost on the way.
    """
    live = context.live
    if live.lost or isinstance(error, RunLost):
        live.lost = True
        return
    code, message = _told(live, error)
    state = _STATES.get(code, "failed")
    events = [("error", {"code": code.value, "message": message}), ("done", {})]
    context.told_error(code.value)
    try:
        await _close(context, state, events, context.receipt, error_code=code.value)
    except RunLost:
        live.lost = True
    except (ApiError, asyncpg.PostgresError) as failure:
        # The database is away: readers get their end now, the reaper closes the journal later.
        log.warning("run.end_unwritten", run=live.run_id, error=type(failure).__name__)
        live.show_written(live.render(events), done=True)


def receipt(context: RunContext, state: RunState) -> dict[str, Any]:
    """From what the answer can be checked: the question as asked of the index, passages, model, prompt, timings, tokens."""
    usage = state["usage"]
    found = state["found"]
    return {
        "standalone_question": state["question"],
        "passages": [_on_record(passage) for passage in state["passages"]],
        "citations": state["citations"],
        "grounded": state["grounded"],
        "retrieval": {"method": found.method, "complete": found.complete, "top_k": context.top_k},
        "model": context.live.resources.get(Gateway).model_name,
        "prompt_version": prompts.VERSION,
        "tokens": {
            "input": usage.input_tokens if usage else 0,
            "output": usage.output_tokens if usage else 0,
            "estimated": usage.estimated if usage else False,
        },
        "timings_ms": context.timings_ms,
    }


async def _close(
    context: RunContext,
    state: str,
    events: list[tuple[str, dict[str, Any]]],
    written: dict[str, Any],
    *,
    error_code: str | None = None,
    messages: list[tuple[str, str]] | None = None,
) -> None:
    live = context.live
    live.closing = True
    pending = await live.resources.get(Journal).take(live)
    texts = live.render(events)
    first = live.next_seq
    rows = [*pending, *((first + place, text) for place, text in enumerate(texts))]
    try:
        mine = await repository.finish(
            live.resources.get(Database),
            live.principal.tenant_id,
            live.run_id,
            live.epoch,
            state=state,
            receipt=written,
            error_code=error_code,
            events=rows,
            document_ids=live.document_ids,
            messages=messages or [],
            spent=context.meter.spent(),
        )
    except BaseException:
        live.put_back(pending)
        raise
    if not mine:
        raise RunLost(live.run_id)
    live.show_written(texts, done=True)
    RUNS.labels(state).inc()
    RUN_DURATION.observe(perf_counter() - context.began)
    if live.journalled:  # before that no other process can have begun to read
        await live.resources.get(Redis).publish(channel(live.run_id))


def _told(live: LiveRun, error: BaseException) -> tuple[ErrorCode, str]:
    if isinstance(error, asyncio.CancelledError):
        code = ErrorCode(live.cancel_code) if live.cancel_code else ErrorCode.RUN_INTERRUPTED
        return code, {
            ErrorCode.RUN_CANCELLED: "The run was cancelled.",
            ErrorCode.AUTH_REVOKED_KEY: REVOKED,
            ErrorCode.RUN_INTERRUPTED: "The process that ran it was stopped; ask again.",
        }[code]
    if isinstance(error, ApiError):
        return error.code, error.message
    if contended(error):
        log.warning("run.contended", run=live.run_id, error=type(error).__name__)
        return ErrorCode.SERVICE_UNAVAILABLE, "The database took too long; try again shortly."
    log.error("run.failed", run=live.run_id, error=type(error).__name__, exc_info=error)
    return ErrorCode.INTERNAL_ERROR, "Something went wrong here; the request id lets an operator find it."


def _on_record(passage: Passage) -> dict[str, Any]:
    return {
        "document_id": passage.document_id,
        "document_version": passage.version,
        "chunk_id": passage.chunk_id,
        "chunk_hash": passage.hash,
        "page": passage.page,
        "start": passage.start,
        "end": passage.end,
        "score": passage.score,
        "bm25": passage.bm25,
        "cosine": passage.cosine,
    }
