"""One request on its way through the pipeline: who calls, what they may reach, what goes on record."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from nexusrag.infra.bulkheads import Slot
from nexusrag.infra.changes import Changes, announce
from nexusrag.infra.database import Database, Work
from nexusrag.infra.resources import Resources
from nexusrag.infra.turns import TURN_KEY, Turns
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.principal import Principal
from nexusrag.kernel.traffic import RouteClass
from nexusrag.settings import Settings
from nexusrag.web.address import client_address
from nexusrag.web.gate import Gate
from nexusrag.web.limits import Limits

T = TypeVar("T")
CALL_KEY = "nexusrag.call"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request was answered: its status, and the code of its error. `replayed`: by a stored answer.

    Of a stream: the code of the error that it told, the moment (`perf_counter`) of its first event, and whether its end was reached.
    """

    status: int
    error: str | None
    replayed: bool
    first_at: float | None = None
    complete: bool = True


@dataclass(slots=True)
class CallContext:
    """What stages and services share about one request. `headers` go on an answer of success, `always` on refusals as well."""

    request: Request
    gate: Gate
    request_id: str
    resources: Resources
    loaders: Mapping[Any, Any]
    route_class: RouteClass
    legacy: bool = False
    _principal: Principal | None = None
    # The tenant that an operator of the platform named, where that is not their own.
    acting_in: str | None = None
    # Tenant, type of actor and id behind a credential that was recognised and refused: its owner sees the attempt.
    claimed: tuple[str, str, str] | None = None
    # The event under which a refusal stands in the log, where it is not the usual one of its code.
    refused_as: EventType | None = None
    # How many changes of credentials this process had heard of when the caller's own was checked.
    heard: int = 0
    _work: Work | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    loaded: Any = None
    # What the loader found to be granted; the stage of the resource's domain reads it.
    rights: Any = None
    caller: Any = None
    # The policy that refused the request, for the log.
    denied_by: str | None = None
    body: Any = None
    fingerprint: bytes = b""
    replay: Any = None
    run_id: str | None = None
    slot: Slot | None = None
    idempotency: tuple[str, str, bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    # What admission decided in its one round trip; each stage raises its own part of it.
    admission: Any = None
    # When the request came (`perf_counter`).
    began: float = field(default_factory=perf_counter)
    # Events that stages want told on a run's stream, in their order: type and data.
    notices: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    # The code of an error that a stream told after its answer had begun.
    stream_error: str | None = None
    # Another status than the route's own, for what was accepted and not done yet.
    status: int | None = None
    recorded: dict[str, Any] = field(default_factory=dict)
    # What the audit events are about; a type of None is what the gate loads.
    resource_type: Resource | None = None
    resource_id: str | None = None
    # The request found everything as it wants it: there is no act for the gate's audit event to record.
    unchanged: bool = False
    events: list[tuple[EventType, dict[str, Any]]] = field(default_factory=list)
    _on_resuming: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _after_commit: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _on_failure: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _finally: list[Callable[[], None]] = field(default_factory=list)
    _over: list[Callable[[Outcome], Awaitable[None]]] = field(default_factory=list)

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
    def address(self) -> str | None:
        """The network address of the client, as far as it can be known."""
        return client_address(self.request, self.of(Settings).web.trusted_networks)

    @property
    def tenant_id(self) -> str:
        """The tenant that the request acts in: the caller's own, unless an operator named another."""
        return self.acting_in or self.principal.tenant_id

    @property
    def db(self) -> Work:
        """The request's transaction, which the route class opens before the handler and commits after it."""
        if self._work is None:
            raise RuntimeError("no transaction is open")
        return self._work

    @property
    def session(self) -> AsyncSession:
        return self.db.session

    async def begin_work(self, stack: AsyncExitStack) -> None:
        """Open the request's transaction, which ends with `stack`. For the route class alone."""
        self._stack = stack
        self._work = await stack.enter_async_context(self._own_work())

    def drop_work(self) -> None:
        """Forget a transaction that has ended. For the route class alone."""
        self._work = None

    async def end_work(self) -> None:
        """Commit the request's transaction before the handler is done, for handlers that read and then ask a model."""
        if self._work is not None:
            if (turn := self.request.scope.get(TURN_KEY)) is not None:
                self.of(Turns).leave(turn)  # nobody need wait for what waits itself
            await self._stack.aclose()
            self._work = None
            self._on_failure.clear()

    @asynccontextmanager
    async def outside_work(self) -> AsyncIterator[None]:
        """Commit what was done so far and go on in a further transaction afterwards, for what takes long, such as storing a file.

        Nothing holds a connection meanwhile, and no lock outlives it: look again at what the former transaction looked at.
        """
        await self.end_work()
        yield
        self._work = await self._stack.enter_async_context(self._own_work())
        for action in self._on_resuming:
            await action()

    @property
    def has_work(self) -> bool:
        return self._work is not None

    @property
    def commit_sent(self) -> bool:
        """Whether the transaction may have been committed though it ended in an error."""
        return self._work is not None and self._work.commit_sent

    def _own_work(self) -> AbstractAsyncContextManager[Work]:
        reads = self.request.method == "GET" and self.gate.audit is None
        return self.of(Database).work(self.tenant_id, reads=reads)

    def work(self, *, options: Mapping[str, str] | None = None) -> AbstractAsyncContextManager[Work]:
        """A further transaction of the caller's tenant, for work that goes on after the answer began."""
        return self.of(Database).work(self.tenant_id, options=options)

    def of(self, kind: type[T]) -> T:
        """The process-wide resource of this type."""
        return self.resources.get(kind)

    def record(self, **metadata: Any) -> None:
        """Add identifiers and counts to the gate's audit event. Never text of prompts or documents."""
        self.recorded.update(metadata)

    def about(self, kind: Resource, key: str) -> None:
        """Name what the gate's audit event is about, where that is not what the gate loaded."""
        self.resource_type, self.resource_id = kind, key

    def also_record(self, event: EventType, **metadata: Any) -> None:
        """A further audit event of the same transaction."""
        self.events.append((event, metadata))

    async def announce(self, kind: str, key: str) -> None:
        """Once committed, every process drops what it keeps about `kind` `key`; this one before the answer is sent."""
        await announce(self.db, kind, key)

        async def here() -> None:
            self.of(Changes).tell(kind, key)

        self.after_commit(here)

    def after_commit(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` once the transaction is durable, before the answer is sent."""
        self._after_commit.append(action)

    def on_failure(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` when the transaction is not committed, to take back what a rollback cannot."""
        self._on_failure.append(action)

    def on_resuming(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` first in each further transaction of the request (`outside_work`)."""
        self._on_resuming.append(action)

    def on_leaving(self, action: Callable[[], None]) -> None:
        """Run `action` when the request is over, whatever happened."""
        self._finally.append(action)

    def on_over(self, action: Callable[[Outcome], Awaitable[None]]) -> None:
        """Run `action` once the answer was given, whatever it was: that of a stream when the stream has ended."""
        self._over.append(action)

    @property
    def is_watched(self) -> bool:
        return bool(self._over)

    async def run_over(self, outcome: Outcome) -> None:
        """For the route class alone."""
        for action in reversed(self._over):
            await action(outcome)

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
