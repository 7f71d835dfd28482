"""Callers with a run or a stream open: when something about them changes they are checked anew, and cut off if they may no longer call."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import asyncpg
import structlog

from nexusrag.identity.credentials.facade import CredentialCache, still_good
from nexusrag.infra.changes import CREDENTIAL, PERSON, TENANT, Changes
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.principal import Principal
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.sse import frame

log = structlog.get_logger(__name__)
REVOKED = "The credential of this request is no longer accepted."
_AGAIN_S = 0.2
_DONE = b"\nevent: done\n"  # of the line of an event alone: what is in its data holds no line break


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    principal: Principal
    end: Callable[[], None]

    @property
    def credential(self) -> tuple[str, str]:
        return self.principal.tenant_id, self.principal.credential_id


class Revocations:
    """What is open in this process, by its caller. A change may be harmless, so the database is asked before anything ends."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._open: set[_Open] = set()
        self._doubtful: set[tuple[str, str]] = set()
        self._checking: asyncio.Task[None] | None = None
        changes = resources.get(Changes)
        changes.on(CREDENTIAL, lambda key: self._doubt(lambda one: one.credential_id == key), dropped=self._doubt_all)
        changes.on(PERSON, lambda key: self._doubt(lambda one: f"{one.tenant_id}/{one.subject_id}" == key), dropped=lambda: None)
        changes.on(TENANT, lambda key: self._doubt(lambda one: one.tenant_id == key), dropped=lambda: None)

    def watch(self, call: CallContext, end: Callable[[], None]) -> Callable[[], None]:
        """Call `end` when the caller's credential is not accepted any more; the returned function says that nothing is left to end."""
        entry = _Open(call.principal, end)
        self._open.add(entry)
        if call.of(CredentialCache).generation != call.heard:  # something has changed since the caller was checked
            self._doubt(lambda one: one is entry.principal)
        return lambda: self._open.discard(entry)

    async def close(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)

    def _doubt(self, concerned: Callable[[Principal], bool]) -> None:
        self._doubtful |= {entry.credential for entry in self._open if concerned(entry.principal)}
        if self._doubtful and (self._checking is None or self._checking.done()):
            self._checking = asyncio.create_task(self._check_doubtful(), name="revocations")

    def _doubt_all(self) -> None:
        """Changes may have been missed."""
        self._doubt(lambda _: True)

    async def _check_doubtful(self) -> None:
        while self._doubtful:
            credential = self._doubtful.pop()
            entry = next((entry for entry in self._open if entry.credential == credential), None)
            if entry is None:
                continue
            try:
                async with self._resources.get(Database).work(entry.principal.tenant_id) as work:
                    good = await still_good(work, entry.principal, self._resources.get(Settings).auth)
            except (ApiError, asyncpg.PostgresError) as error:  # not knowing is no reason to end anything, nor to forget
                log.warning("revocations.unchecked", error=type(error).__name__)
                self._doubtful.add(credential)
                await asyncio.sleep(_AGAIN_S)
                continue
            for concerned in [entry for entry in self._open if not good and entry.credential == credential]:
                concerned.end()


async def while_accepted(call: CallContext, pieces: AsyncGenerator[bytes, None], run_id: str, after: int) -> AsyncGenerator[bytes, None]:
    """`pieces`, until the reader's credential is not accepted any more; then `error` and `done`, under the id of the last event that
    was sent, so that the reader can go on from there with another credential. A stream that has ended ends once.
    """
    revoked = asyncio.Event()
    gone = call.of(Revocations).watch(call, revoked.set)
    waiting = asyncio.create_task(revoked.wait())
    following: asyncio.Task[bytes | None] | None = None
    last = f"{run_id}.{after}"
    try:
        async with aclosing(pieces):
            try:
                while True:
                    following = asyncio.create_task(_next(pieces))
                    await asyncio.wait((waiting, following), return_when=asyncio.FIRST_COMPLETED)
                    if waiting.done():
                        break
                    piece = following.result()
                    if piece is None:
                        return
                    yield piece
                    if _DONE in piece:
                        return
                    last = _last_id(piece)
            finally:
                if following is not None:
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
        yield _cut_off(last, call.request_id)
    finally:
        gone()
        waiting.cancel()


async def _next(pieces: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(pieces, None)


def _last_id(piece: bytes) -> str:
    # A piece is whole events, each of which begins with its id.
    return (b"\n" + piece).rpartition(b"\nid: ")[2].partition(b"\n")[0].decode()


def _cut_off(last: str, request_id: str) -> bytes:
    told = {"code": ErrorCode.AUTH_REVOKED_KEY.value, "message": REVOKED}
    seq = int(last.rpartition(".")[2])
    return "".join(
        frame(event, last, {"type": event, "request_id": request_id, "session_id": None, "seq": number, "data": data})
        for number, (event, data) in enumerate((("error", told), ("done", {})), seq + 1)
    ).encode()
