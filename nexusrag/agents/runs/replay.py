"""Following a run from its journal, on whatever process the reader has reached."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Any

from redis.asyncio.client import PubSub
from sqlalchemy import func, select

from nexusrag.access.policies.facade import Caller
from nexusrag.agents.runs import repository
from nexusrag.agents.runs.live import channel, render
from nexusrag.infra.database import Database, Work
from nexusrag.infra.redis import UNREACHABLE, Redis
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Permission
from nexusrag.kernel.errors import ErrorCode
from nexusrag.knowledge.documents.facade import Document
from nexusrag.knowledge.visibility import rule
from nexusrag.settings import Settings

_POLL_S = 0.5


async def follow_journal(resources: Resources, caller: Caller, run_id: str, after: int, request_id: str) -> AsyncGenerator[bytes, None]:
    """The frames after number `after`, byte for byte as they were first sent, then new ones as the journal grows."""
    database = resources.get(Database)
    async with database.work(caller.principal.tenant_id) as work:
        run = await repository.find(work, run_id)
        allowed = run is not None and await _may_follow(resources, work, caller, run)
    if not allowed:
        yield unsupported(request_id)
        return
    place = after
    async with _bell(resources.get(Redis), run_id) as bell:
        while True:
            async with database.work(caller.principal.tenant_id) as work:
                # The state before the events: an end that is written in between shows in them, now or at the next look.
                run = await repository.find(work, run_id)
                over = run is None or run["state"] != "running"
                events = await repository.events_after(work, run_id, run["day"], place) if run is not None else []
                # A place that a finished run never reached is refused; at its last event there is nothing more to tell.
                beyond = over and not events and (run is None or place > await repository.last_seq(work, run_id, run["day"]))
            if events:
                place = events[-1][0]
                yield "".join(payload for _, payload in events).encode()
            elif beyond:
                yield unsupported(request_id)
            if over:
                return
            if not events:
                await _wait(bell)


def unsupported(request_id: str) -> bytes:
    """The two events that say: nothing to resume from, start anew."""
    told = {"code": ErrorCode.RESUME_UNSUPPORTED.value, "message": "There is nothing to resume from; send the question again."}
    events = [("resume.unsupported", told), ("done", {})]
    return "".join(render("none", request_id, None, seq, event, data) for seq, (event, data) in enumerate(events, 1)).encode()


async def _may_follow(resources: Resources, work: Work, caller: Caller, run: Any) -> bool:
    """Own run, journal not expired, and every document that was read is still readable for the caller."""
    settings = resources.get(Settings)
    if run["user_id"] != caller.principal.subject_id:
        return False
    if run["finished_at"] is not None and run["now"] - run["finished_at"] > timedelta(seconds=settings.runs.run_journal_ttl_s):
        return False
    return await may_read(work, caller, run["document_ids"])


async def may_read(work: Work, caller: Caller, documents: list[str] | None) -> bool:
    """Whether `caller` may still read every one of the documents that a run has read."""
    if not documents:
        return True
    reading = rule(caller, Permission.READ)
    mine = select(func.count()).select_from(Document).where(Document.tenant_id == work.tenant_id, Document.id.in_(documents))
    statement = mine.where(reading.condition).params(dict(reading.values))
    return (await work.connection.execute(statement)).scalar_one() == len(documents)


@contextlib.asynccontextmanager
async def _bell(redis: Redis, run_id: str) -> AsyncIterator[PubSub | None]:
    """Wake-ups for this run; None when Redis is away, and polling does."""
    pubsub: PubSub = redis.client.pubsub()
    heard = True
    try:
        try:
            async with asyncio.timeout(0.2):
                await pubsub.subscribe(channel(run_id))
        except UNREACHABLE:
            heard = False
        yield pubsub if heard else None
    finally:
        with contextlib.suppress(*UNREACHABLE):
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py has no types here


async def _wait(bell: PubSub | None) -> None:
    if bell is None:
        await asyncio.sleep(_POLL_S)
        return
    try:
        await bell.get_message(ignore_subscribe_messages=True, timeout=_POLL_S)
    except UNREACHABLE:
        await asyncio.sleep(_POLL_S)
