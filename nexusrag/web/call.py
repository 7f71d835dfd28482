"""One request on its way through the pipeline: who calls, what they may reach, what goes on record."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from nexusrag.infra.bulkheads import Slot
from nexusrag.infra.database import Database, Work
from nexusrag.infra.resources import Resources
from nexusrag.kernel.events import EventType
from nexusrag.kernel.principal import Principal
from nexusrag.web.gate import Gate

T = TypeVar("T")
CALL_KEY = "nexusrag.call"


@dataclass(slots=True)
class CallContext:
    """What stages and services share about one request. `headers` go on the answer."""

    request: Request
    gate: Gate
    request_id: str
    resources: Resources
    loaders: Mapping[Any, Any]
    legacy: bool = False
    _principal: Principal | None = None
    # Tenant and key of a credential that was recognised and refused: its owner sees the attempt.
    claimed: tuple[str, str] | None = None
    _work: Work | None = None
    _end_work: Callable[[], Awaitable[None]] | None = None
    loaded: Any = None
    rights: tuple[bool, bool] = (False, False)
    body: Any = None
    fingerprint: bytes = b""
    replay: Any = None
    run_id: str | None = None
    slot: Slot | None = None
    idempotency: tuple[str, str, bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    recorded: dict[str, Any] = field(default_factory=dict)
    resource_id: str | None = None
    events: list[tuple[EventType, dict[str, Any]]] = field(default_factory=list)
    _after_commit: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _on_failure: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _finally: list[Callable[[], None]] = field(default_factory=list)

    @property
    def principal(self) -> Principal:
        if self._principal is None:
            raise RuntimeError("a public route has no caller")
        return self._principal

    @principal.setter
    def principal(self, value: Principal) -> None:
        self._principal = value

    @property
    def known_principal(self) -> Principal | None:
        return self._principal

    @property
    def tenant_id(self) -> str:
        return self.principal.tenant_id

    @property
    def db(self) -> Work:
        """The request's transaction, which the route class opens before the handler and commits after it."""
        if self._work is None:
            raise RuntimeError("no transaction is open")
        return self._work

    @property
    def session(self) -> AsyncSession:
        return self.db.session

    def open_work(self, work: Work | None, end: Callable[[], Awaitable[None]] | None = None) -> None:
        """For the route class alone."""
        self._work = work
        self._end_work = end

    async def end_work(self) -> None:
        """Commit the request's transaction before the handler is done, for handlers that read and then ask a model."""
        ender, self._end_work = self._end_work, None
        if ender is not None:
            self._work = None
            await ender()

    @property
    def has_work(self) -> bool:
        return self._work is not None

    def work(self, *, options: Mapping[str, str] | None = None) -> AbstractAsyncContextManager[Work]:
        """A further transaction of the caller's tenant, for work that goes on after the answer began."""
        return self.of(Database).work(self.tenant_id, options=options)

    def of(self, kind: type[T]) -> T:
        """The process-wide resource of this type."""
        return self.resources.get(kind)

    def record(self, **metadata: Any) -> None:
        """Add identifiers and counts to the gate's audit event. Never text of prompts or documents."""
        self.recorded.update(metadata)

    def also_record(self, event: EventType, **metadata: Any) -> None:
        """A further audit event of the same transaction."""
        self.events.append((event, metadata))

    def after_commit(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` once the transaction is durable, before the answer is sent."""
        self._after_commit.append(action)

    def on_failure(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` when the transaction is not committed, to take back what a rollback cannot."""
        self._on_failure.append(action)

    def on_leaving(self, action: Callable[[], None]) -> None:
        """Run `action` when the request is over, whatever happened."""
        self._finally.append(action)

    async def run_after_commit(self) -> None:
        for action in self._after_commit:
            await action()

    async def run_on_failure(self) -> None:
        for action in reversed(self._on_failure):
            await action()

    def release_slot(self) -> None:
        if self.slot is not None:
            self.slot.release()
            self.slot = None

    def keep_slot(self) -> Slot | None:
        """The request's place, for work that goes on after the answer began; the taker gives it back."""
        slot, self.slot = self.slot, None
        return slot

    def leave(self) -> None:
        for action in reversed(self._finally):
            action()


def _current(request: Request) -> CallContext:
    call: CallContext = request.scope[CALL_KEY]
    return call


async def _call(request: Request) -> CallContext:
    return _current(request)


async def _loaded(request: Request) -> Any:
    return _current(request).loaded


Call = Annotated[CallContext, Depends(_call)]
# The resource that the gate loaded and checked: `corpus: Loaded[Corpus]`.
Loaded = Annotated[T, Depends(_loaded)]
