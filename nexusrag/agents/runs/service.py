"""Use cases of runs: start, follow, resume, cancel."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from nexusrag.access.policies.facade import caller_of
from nexusrag.agents.runs import ending, repository
from nexusrag.agents.runs.context import RunContext
from nexusrag.agents.runs.graph import GRAPH
from nexusrag.agents.runs.journal import Journal
from nexusrag.agents.runs.live import LiveRun
from nexusrag.agents.runs.registry import CANCEL, RunRegistry
from nexusrag.agents.runs.replay import follow_journal, may_read, unsupported
from nexusrag.agents.runs.revocation import Revocations, while_accepted
from nexusrag.agents.runs.schemas import RunCancelled, RunOut, RunRequest
from nexusrag.agents.runs.terms import accept, terms_of
from nexusrag.billing.plans.facade import require
from nexusrag.infra.changes import announce
from nexusrag.infra.turns import Turns
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.kernel.ids import new_id
from nexusrag.knowledge.corpora.facade import CorpusView, parse
from nexusrag.knowledge.retrieval.facade import demand_provider, where_of
from nexusrag.security.audit.facade import write
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.sse import EventStream
from nexusrag.web.turn import turn_of

_HISTORY = 20


async def start(call: CallContext, corpus: CorpusView, body: RunRequest) -> EventStream:
    """Accept a run in the request's transaction; it begins once that is committed, and goes on without its client for a while.

    Raises FEATURE_NOT_ENABLED for audio or a provider that the plan lacks, FEATURE_TEMPORARILY_DISABLED for a provider that is switched
    off, SESSION_TENANT_MISMATCH for a foreign session, NOT_FOUND for another person's, QUOTA_EXCEEDED or COST_BUDGET_EXCEEDED where
    not enough is left for what it may take.
    """
    if body.audio:
        require(call.principal, Feature.TTS)
    if not call.limits.local_only:
        await demand_provider(call, corpus)
    where = where_of(call.principal, corpus, body.filters, local_only=call.limits.local_only)
    said_before = await repository.enter_session(call.db, body.session_id, call.principal.subject_id, _HISTORY)
    registry = call.of(RunRegistry)
    run_id = call.run_id = new_id("run")
    terms = await terms_of(call, run_id, body, body.top_k or parse(corpus.provider_config).top_k_default, said_before)
    invoked = {"run_id": run_id, "corpus_id": corpus.id, "top_k": terms.top_k, "audio": terms.audio}
    await write(call, call.db, EventType.RUN_INVOKED, invoked, about=(Resource.RUN, run_id))
    # Last: all of the tenant's work meets in the rows of what it has used, which are locked until the transaction ends.
    verdict = await repository.insert(
        call.db,
        terms.reservation,
        terms.caps,
        run_id=run_id,
        session_id=body.session_id,
        corpus_id=corpus.id,
        user_id=call.principal.subject_id,
        key_id=call.principal.credential_id,
        request_id=call.request_id,
        question=body.message,
        process=registry.process,
    )
    await accept(call, terms, verdict)
    call.about(Resource.RUN, run_id)
    live = _live(call, run_id, body.session_id)
    call.on_failure(lambda: _give_up(live))
    context = RunContext(
        live=live,
        where=where,
        message=body.message,
        top_k=terms.top_k,
        audio=terms.audio,
        said_before=said_before,
        meter=terms.meter,
        max_output_tokens=terms.max_output_tokens,
        turn=turn_of(call),
        reduced=terms.reduced,
        notices=call.notices,
        told_error=partial(_note_error, call),
    )

    async def begin() -> None:
        task = asyncio.create_task(_run(context), name=f"run {run_id}")
        registry.add(live, task)
        ended = call.of(Revocations).watch(call, partial(registry.stop, live, ErrorCode.AUTH_REVOKED_KEY))
        task.add_done_callback(lambda _: ended())

    call.after_commit(begin)
    # Counted as read from here on: another run must not take its place before the first byte is sent.
    return stream(call, _of_live(call, live, 0), registry.read_by(live))


async def replay(call: CallContext, run_id: str, after: int) -> EventStream:
    """Follow a run from event `after` on, live or from its journal, in this process or another's.

    A run that is unknown, another's, expired, or whose passages the caller may no longer see, answers resume.unsupported, done.
    """
    call.of(Turns).leave(turn_of(call))  # it waits for a run
    registry = call.of(RunRegistry)
    live = registry.get(run_id)
    if live is not None and live.principal.subject_id == call.principal.subject_id and live.principal.tenant_id == call.tenant_id:
        if after >= live.next_seq or not await may_read(call.db, caller_of(call), live.document_ids):
            return stream(call, _one(unsupported(call.request_id)), lambda: None)
        gone = registry.read_by(live)
        call.on_failure(_called(gone))
        pieces = _of_live(call, live, after)
        own = live.principal.credential_id == call.principal.credential_id  # whose end is the run's, and so everybody's
        return stream(call, pieces if own else while_accepted(call, pieces, run_id, after), gone)
    gone = registry.follow(call.principal, run_id)
    call.on_failure(_called(gone))
    pieces = follow_journal(call.resources, caller_of(call), run_id, after, call.request_id)
    return stream(call, while_accepted(call, pieces, run_id, after), gone)


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
    if receipt and not await may_read(call.db, caller_of(call), run["document_ids"]):
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


def _live(call: CallContext, run_id: str, session_id: str) -> LiveRun:
    return LiveRun(
        call.resources,
        caller_of(call),
        run_id=run_id,
        session_id=session_id,
        request_id=call.request_id,
        slot=call.keep_slot(),
        on_pending=call.of(Journal).note,
    )


async def _of_live(call: CallContext, live: LiveRun, after: int) -> AsyncGenerator[bytes, None]:
    """The run as this process goes through it, and should it lose the run, as its journal goes on."""
    async with aclosing(live.read(after, gather_s=call.of(Settings).runs.sse_flush_interval_ms / 1000)) as pieces:
        async for piece in pieces:
            yield piece
    if live.lost:
        async with aclosing(follow_journal(call.resources, live.caller, live.run_id, live.next_seq - 1, call.request_id)) as pieces:
            async for piece in pieces:
                yield piece


async def _run(context: RunContext) -> None:
    live = context.live
    live.emit("request.accepted", {"accepted_at": clock.iso(clock.now()), "run_id": live.run_id})
    for event, data in context.notices:
        live.emit(event, data)
    try:
        if live.cancel_code is not None:  # stopped before it had begun
            raise asyncio.CancelledError
        async for _ in GRAPH.astream({}, context=context, stream_mode=[]):  # what there is to tell, the nodes tell themselves
            pass
    except BaseException as error:  # however it ended, readers and journal get an end
        await asyncio.shield(ending.fail(context, error))
        raise


def _note_error(call: CallContext, code: str) -> None:
    """Whoever measures the request hears that its stream told an error."""
    call.stream_error = code


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


def describe_run(call: CallContext, run: Any) -> dict[str, Any]:
    """What policies may ask of a run."""
    return {"id": run["id"], "corpus_id": run["corpus_id"], "session_id": run["session_id"], "owner": run["user_id"]}


def describe_asked(call: CallContext, corpus: CorpusView) -> dict[str, Any]:
    """The same of one that is asked for."""
    return {"corpus_id": corpus.id, "session_id": call.body.get("session_id"), "owner": call.principal.subject_id}
