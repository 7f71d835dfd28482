"""HTTP face of runs: POST /v1/run and /v1/runs."""

from typing import Annotated, Any

from fastapi import Header, Response

from nexusrag.agents.runs import gates, service
from nexusrag.agents.runs.schemas import RunCancelled, RunOut, RunRequest
from nexusrag.knowledge.corpora.facade import CorpusView
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

run_router = Router("run", tag="Runs")
runs_router = Router("runs", tag="Runs")
_STREAM = "text/event-stream"
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]


@run_router.post("", gate=gates.CREATE, media_type=_STREAM)
async def run(call: Call, corpus: Loaded[CorpusView], body: RunRequest, last_event_id: LastEventId = None) -> Response:
    """Ask a question of a corpus and get the answer as a stream of events.

    Order: request.accepted, token.delta*, message.final, audio.ready or audio.error if asked for, done. An error is one event
    with a code, followed by done. With `Last-Event-ID` an earlier run goes on from there instead.
    """
    if last_event_id is not None:
        call.idempotency = None  # a stream that goes on is no answer to keep
        run_id, after = service.split_event_id(last_event_id) or ("", 0)
        return await service.replay(call, run_id, after)
    if call.run_id is not None:
        return await service.replay(call, call.run_id, 0)
    return await service.start(call, corpus, body)


@runs_router.get("/{run_id}", gate=gates.READ)
async def get_run(call: Call, found: Loaded[Any]) -> RunOut:
    """The receipt of one of the caller's runs: question, passages with document version and chunk hash, model, timings, tokens."""
    return await service.describe(call, found)


@runs_router.get("/{run_id}/events", gate=gates.EVENTS, media_type=_STREAM)
async def follow_run(call: Call, run_id: str, last_event_id: LastEventId = None) -> Response:
    """Follow a run from the event after `Last-Event-ID`, or from its beginning."""
    seen = service.split_event_id(last_event_id)
    if last_event_id is not None and (seen is None or seen[0] != run_id):
        return await service.replay(call, "", 0)
    return await service.replay(call, run_id, seen[1] if seen else 0)


@runs_router.post("/{run_id}/cancel", gate=gates.CANCEL)
async def cancel_run(call: Call, found: Loaded[Any]) -> RunCancelled:
    """Stop a run; its stream ends with the error RUN_CANCELLED and done."""
    return await service.cancel(call, found)
