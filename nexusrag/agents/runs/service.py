"""Use cases of runs: start, follow, resume, cancel."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from nexusrag.agents.runs import ending, repository
from nexusrag.agents.runs.context import RunContext
from nexusrag.agents.runs.graph import GRAPH
from nexusrag.agents.runs.live import LiveRun
from nexusrag.agents.runs.registry import CANCEL, RunRegistry
from nexusrag.agents.runs.replay import follow_journal, may_read, unsupported
from nexusrag.agents.runs.schemas import RunCancelled, RunOut, RunRequest
from nexusrag.infra.changes import announce
from nexusrag.kernel import clock
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.knowledge.corpora.facade import CorpusView, parse
from nexusrag.knowledge.retrieval.facade import where_of
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.sse import EventStream

_HISTORY = 20


async def start(call: CallContext, corpus: CorpusView, body: RunRequest) -> EventStream:
    """Accept a run in the request's transaction; it begins once that is committed, and goes on without its client for a while.

    Raises SESSION_TENANT_MISMATCH for a foreign session, NOT_FOUND for another person's.
    """
    where = where_of(corpus, body.filters)
    said_before = await repository.enter_session(call.db, body.session_id, call.principal.subject_id, _HISTORY)
    registry = call.of(RunRegistry)
    run_id = call.run_id = new_id("run")
    await repository.insert(
        call.db,
        run_id=run_id,
        session_id=body.session_id,
        corpus_id=corpus.id,
        user_id=call.principal.subject_id,
        key_id=call.principal.api_key_id,
        request_id=call.request_id,
        question=body.message,
        process=registry.process,
    )
    call.resource_id = run_id
    call.also_record(EventType.RUN_INVOKED, run_id=run_id, corpus_id=corpus.id, top_k=body.top_k, audio=body.audio)
    live = LiveRun(
        call.resources, call.principal, run_id=run_id, session_id=body.session_id, request_id=call.request_id, slot=call.keep_slot()
    )
    call.on_failure(lambda: _give_up(live))
    context = RunContext(
        live=live,
        where=where,
        message=body.message,
        top_k=body.top_k or parse(corpus.provider_config).top_k_default,
        audio=body.audio,
        said_before=said_before,
    )

    async def begin() -> None:
        registry.add(live, asyncio.create_task(_run(context), name=f"run {run_id}"))

    call.after_commit(begin)
    # Counted as read from here on: another run must not take its place before the first byte is sent.
    return stream(call, _of_live(call, live, 0), registry.read_by(live))


async def replay(call: CallContext, run_id: str, after: int) -> EventStream:
    """Follow a run from event `after` on, live or from its journal, in this process or another's.

    A run that is unknown, another's, expired, or whose passages the caller may no longer see, answers resume.unsupported, done.
    """
    registry = call.of(RunRegistry)
    live = registry.get(run_id)
    if live is not None and live.principal.subject_id == call.principal.subject_id and live.principal.tenant_id == call.tenant_id:
        if after >= live.next_seq or not await may_read(call.db, call.of(Settings), call.principal, live.document_ids):
            return stream(call, _one(unsupported(call.request_id)), lambda: None)
        gone = registry.read_by(live)
        call.on_failure(_called(gone))
        return stream(call, _of_live(call, live, after), gone)
    return stream(call, follow_journal(call.resources, call.principal, run_id, after, call.request_id), lambda: None)


def stream(call: CallContext, chunks: AsyncGenerator[bytes, None], closed: Callable[[], None]) -> EventStream:
    """The answer that carries a run."""
    return EventStream(chunks, stall_s=call.of(Settings).runs.run_stall_timeout_s, closed=closed)


async def cancel(call: CallContext, run: Any) -> RunCancelled:
    """Ask for the end of a run, wherever it runs. A finished one stays as it is."""
    await repository.request_cancel(call.db, run["id"])
    await announce(call.db, CANCEL, run["id"])
    return RunCancelled(run_id=run["id"], state="cancelling" if run["state"] == "running" else run["state"])


async def describe(call: CallContext, run: Any) -> RunOut:
    """The receipt. Words of documents that the caller may no longer read are withheld; hashes and places stay."""
    receipt = run["receipt"]
    if receipt and not await may_read(call.db, call.of(Settings), call.principal, run["document_ids"]):
        citations = [{**one, "metadata": {**one["metadata"], "quote": None}} for one in receipt.get("citations", ())]
        receipt = {**receipt, "citations": citations, "withheld": True}
    return RunOut.model_construct(
        run_id=run["id"], receipt=receipt, **{name: run[name] for name in RunOut.model_fields if name not in ("run_id", "receipt")}
    )


def split_event_id(event_id: str | None) -> tuple[str, int] | None:
    """Run and number of an SSE id `<run_id>.<seq>`; None for anything else."""
    if event_id is None:
        return None
    run_id, dot, seq = event_id.rpartition(".")
    if not dot or not run_id or not seq.isdecimal() or len(seq) > 9:
        return None
    return run_id, int(seq)


def _of_live(call: CallContext, live: LiveRun, after: int) -> AsyncGenerator[bytes, None]:
    return live.read(after, gather_s=call.of(Settings).runs.sse_flush_interval_ms / 1000)


async def _run(context: RunContext) -> None:
    live = context.live
    live.emit("request.accepted", {"accepted_at": clock.iso(clock.now()), "run_id": live.run_id})
    try:
        await GRAPH.ainvoke({}, context=context)
    except BaseException as error:  # however it ended, readers and journal get an end
        await asyncio.shield(ending.fail(context, error))
        raise
    finally:
        live.done = True
        live.wake_readers()


async def _one(chunk: bytes) -> AsyncGenerator[bytes, None]:
    yield chunk


def _called(action: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        action()

    return call


async def _give_up(live: LiveRun) -> None:
    if live.slot is not None:
        live.slot.release()
        live.slot = None
