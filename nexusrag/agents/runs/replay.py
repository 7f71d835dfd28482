"""Following a run from its journal, on whatever process the reader has reached."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from redis.asyncio.client import PubSub
from sqlalchemy import func, select

from nexusrag.access.policies.facade import Caller
from nexusrag.agents.runs import repository
from nexusrag.agents.runs.live import channel, render
from nexusrag.infra.database import Database, Work
from nexusrag.infra.redis import UNREACHABLE, Redis
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Permission
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.knowledge.documents.facade import Document
from nexusrag.knowledge.visibility import rule
from nexusrag.settings import Settings

T = TypeVar("T")
_POLL_S = 0.5


async def follow_journal(resources: Resources, caller: Caller, run_id: str, after: int, request_id: str) -> AsyncGenerator[bytes, None]:
    """The frames after number `after`, byte for byte as they were first sent, then new ones as the journal grows."""
    tenant_id = caller.principal.tenant_id

    async def allowed(work: Work) -> bool:
        run = await repository.find(work, run_id)
        return run is not None and await _may_follow(resources, work, caller, run)

    if not await _seen(resources, tenant_id, allowed):
        yield unsupported(request_id)
        return
    place = after
    async with _bell(resources.get(Redis), run_id) as bell:
        while True:
            over, events, beyond = await _seen(resources, tenant_id, partial(_look, run_id=run_id, place=place))
            if events:
                place = events[-1][0]
                yield "".join(payload for _, payload in events).encode()
            elif beyond:
                yield unsupported(request_id)
            if over:
                return
            if not events:
                await _wait(bell)


async def _look(work: Work, run_id: str, place: int) -> tuple[bool, list[tuple[int, str]], bool]:
    """Whether the run is over, its events after number `place`, and whether it never got as far as that."""
    # The state before the events: an end that is written in between shows in them, now or at the next look.
    run = await repository.find(work, run_id)
    if run is None:
        return True, [], True
    over = run["state"] != "running"
    events = await repository.events_after(work, run_id, run["day"], place)
    # A place that a finished run never reached is refused; at its last event there is nothing more to tell.
    return over, events, over and not events and place > await repository.last_seq(work, run_id, run["day"])


async def _seen(resources: Resources, tenant_id: str, look: Callable[[Work], Awaitable[T]]) -> T:
    """What a look at the tenant shows. The answer has begun, so there is no refusing any more: without a database, look again."""
    while True:
        try:
            async with resources.get(Database).work(tenant_id) as work:
                return await look(work)
        except ApiError as error:
            if error.code is not ErrorCode.SERVICE_UNAVAILABLE:
                raise
            await asyncio.sleep(_POLL_S)


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
