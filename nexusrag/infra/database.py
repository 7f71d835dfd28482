"""Connections under row-level security, and `Work`: the only way to a transaction."""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import numpy as np
import orjson
import structlog
from numpy.typing import NDArray
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria
from sqlalchemy.pool import NullPool

from nexusrag.infra.models import TenantScoped
from nexusrag.infra.pool import Pool, Pooled
from nexusrag.infra.urls import connect_arguments
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import is_tenant_id
from nexusrag.settings.stores import StoreSettings

log = structlog.get_logger(__name__)

APP_ROLE = "nexusrag_app"
_GRACE_S = 5.0  # for a statement that took too long to be told so
# What a lost connection, a restarting or a full server raises.
UNREACHABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a server that is going down has said so, and its connection is not closed yet
    ConnectionError,
    OSError,
)


# What somebody else's transaction does to a statement: it lasts too long, or each waits for the other.
_CONTENDED = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


def unreachable(error: BaseException) -> bool:
    """Whether `error` says that the database is away, rather than that a statement was wrong."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or isinstance(_of_driver(error), UNREACHABLE)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return False  # a file's fault or a time limit inside the transaction, not the server's
    return isinstance(error, UNREACHABLE)


def contended(error: BaseException) -> bool:
    """Whether the statement may well succeed when it is tried again: others held what it needs, or the database is slow."""
    return isinstance(_of_driver(error) if isinstance(error, DBAPIError) else error, _CONTENDED)


def _of_driver(error: DBAPIError) -> BaseException | None:
    return getattr(error.orig, "__cause__", None) or error.orig


class Work:
    """One open transaction for one tenant. `session` for entities, `connection` for core statements."""

    def __init__(self, tenant_id: str | None, connection: AsyncConnection, raw: "asyncpg.Connection[Any]", criterion: bool) -> None:
        self.tenant_id = tenant_id
        self._criterion = criterion
        self.connection = connection
        self.raw = raw
        self._session: AsyncSession | None = None
        self.commit_sent = False

    @property
    def session(self) -> AsyncSession:
        if self._session is None:
            info = {"tenant_id": self.tenant_id, "criterion": self._criterion}
            self._session = AsyncSession(self.connection, expire_on_commit=False, info=info)
        return self._session

    async def set_options(self, options: Mapping[str, str]) -> None:
        """Settings for the rest of this transaction."""
        await self.raw.execute(_set_locally(options))

    async def flush(self) -> None:
        if self._session is not None:
            await self._session.flush()

    @property
    def is_plain(self) -> bool:
        """Whether SQLAlchemy had no part in it."""
        return self._session is None and not self.connection.in_transaction()

    async def leave(self) -> None:
        """SQLAlchemy's part of the end; the transaction itself is over."""
        if self._session is not None:
            await self._session.close()
        if self.connection.in_transaction():
            await self.connection.rollback()


class Database:
    """The pool of one process. Every connection acts as `nexusrag_app`; a transaction sees one tenant, or none."""

    def __init__(self, stores: StoreSettings, *, pool_size: int | None = None, tenant_criterion: bool = True) -> None:
        self._arguments = connect_arguments(stores.database_url.get_secret_value())
        self._timeout_ms = stores.api_db_statement_timeout_ms
        overflow = 0 if pool_size else stores.api_db_max_overflow
        self.pool = Pool(self._open, pool_size or stores.api_db_pool_size, overflow, UNREACHABLE)
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            poolclass=NullPool,
            json_deserializer=orjson.loads,  # also for statements on the driver: jsonb arrives as values
            isolation_level="AUTOCOMMIT",  # Work sends BEGIN and COMMIT itself, with the tenant, in one round trip
        )
        self.tenant_criterion = tenant_criterion

    async def _connect(self, *_: object, **__: object) -> "asyncpg.Connection[Any]":
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            **self._arguments,
            timeout=10,
            server_settings={
                "role": APP_ROLE,
                "application_name": "nexusrag",
                "jit": "off",
                "timezone": "UTC",
                "statement_timeout": str(self._timeout_ms),
                # Nobody waits inside a transaction for anything but the database: whoever seems to was stopped, and holds locks.
                "idle_in_transaction_session_timeout": "15000",
            },
        )
        await connection.set_type_codec("halfvec", schema="public", encoder=bytes, decoder=_decode_halfvec, format="binary")
        return connection

    async def connect_raw(self) -> "asyncpg.Connection[Any]":
        """A connection outside the pool, for LISTEN. The caller closes it."""
        return await self._connect()

    @asynccontextmanager
    async def work(self, tenant_id: str | None, *, reads: bool = False, options: Mapping[str, str] | None = None) -> AsyncIterator[Work]:
        """A transaction that sees `tenant_id`'s rows (None: no tenant's), committed on leaving, rolled back on any exception.

        `options` are settings of the transaction, such as `hnsw.ef_search`. `reads`: it writes nothing, and PostgreSQL sees to that, so
        that nobody need wait for its end. Raises ApiError(SERVICE_UNAVAILABLE) when the database is away or has no connection to give.
        """
        try:
            await self.pool.take_place()
        except TimeoutError as error:
            raise _away(error) from error
        try:
            pooled = await self.pool.begin(_opening(tenant_id, reads, options or {}))
        except BaseException as error:
            self.pool.leave_place()
            if isinstance(error, (TimeoutError, DBAPIError, *UNREACHABLE)):
                raise _away(error) from error
            raise
        work = Work(tenant_id, pooled.connection, pooled.raw, self.tenant_criterion)
        try:
            yield work
            await work.flush()
            if reads:
                pooled.is_open = True
            else:
                await self._commit(work)
        except BaseException as error:
            # One task: whoever is cancelled once more meanwhile must not give the connection away in the middle of its rollback.
            await asyncio.shield(self._abandon(work, pooled))
            if unreachable(error):
                raise _away(error) from error
            raise
        else:
            if work.is_plain:
                await self.pool.put_back(pooled)
            else:
                await asyncio.shield(self._release(work, pooled))

    async def call(self, function: str, *arguments: Any) -> Any:
        """What a function of the database returns, in a transaction of its own: nothing that it locks waits for this process to commit.

        It enters its tenant itself. Where its answer is lost it is called again, which it must take. Raises ApiError(SERVICE_UNAVAILABLE)
        as `work` does.
        """
        sql = f"select {function}({', '.join(f'${place}' for place, _ in enumerate(arguments, 1))})"

        async def call(pooled: Pooled) -> Any:
            if pooled.is_open:
                await pooled.raw.execute("ROLLBACK")
                pooled.is_open = False
            return await pooled.raw.fetchval(sql, *arguments)

        try:
            await self.pool.take_place()
            try:
                async with asyncio.timeout(self._timeout_ms / 1000 + _GRACE_S):  # one that hangs tells nothing
                    pooled, value = await self.pool.first(call)
            except BaseException:
                self.pool.leave_place()
                raise
        except (TimeoutError, DBAPIError, *UNREACHABLE) as error:
            raise _away(error) from error
        await self.pool.put_back(pooled)
        return value

    async def _open(self) -> Pooled:
        connection = await self.engine.connect()
        driver: asyncpg.Connection[Any] = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
        return Pooled(connection, driver)

    async def _release(self, work: Work, pooled: Pooled) -> None:
        try:
            await work.leave()
        finally:
            await self.pool.put_back(pooled)

    async def _commit(self, work: Work) -> None:
        work.commit_sent = True
        status = await work.raw.execute("COMMIT")
        if status != "COMMIT":  # a swallowed error had aborted the transaction
            raise RuntimeError(f"The transaction ended in {status}.")

    async def _abandon(self, work: Work, pooled: Pooled) -> None:
        try:
            if pooled.raw.is_in_transaction():
                await pooled.raw.execute("ROLLBACK")
        except Exception:  # the connection is lost, and with it the transaction
            pooled.raw.terminate()
        finally:
            await self._release(work, pooled)

    async def dispose(self) -> None:
        """Drop the connections that nobody has."""
        await self.pool.dispose()

    async def close(self) -> None:
        await self.pool.close()
        await self.engine.dispose()


def halfvec(vector: NDArray[np.float32]) -> bytes:
    """A vector as a parameter of type halfvec, in pgvector's binary form: dimensions, a reserved word, half-precision numbers."""
    return struct.pack(">HH", len(vector), 0) + vector.astype(">f2").tobytes()


def _decode_halfvec(raw: bytes) -> NDArray[np.float32]:
    return np.frombuffer(raw, dtype=">f2", offset=4).astype(np.float32)


def _opening(tenant_id: str | None, reads: bool, options: Mapping[str, str]) -> str:
    # RESET ALL first: whatever an earlier user of this connection may have set is gone, in the same round trip.
    if tenant_id is not None and not is_tenant_id(tenant_id):
        raise ValueError("not a tenant id")
    settings = {**({"app.tenant": tenant_id} if tenant_id else {}), **options}
    begin = "RESET ALL; BEGIN READ ONLY" if reads else "RESET ALL; BEGIN"
    return f"{begin}; {_set_locally(settings)}" if settings else begin


def _set_locally(settings: Mapping[str, str]) -> str:
    return "; ".join(f"SET LOCAL {_literal(name)} = '{_literal(value)}'" for name, value in settings.items())


def _literal(value: str) -> str:
    if not value.replace("_", "").replace(".", "").replace("-", "").isalnum() and value:
        raise ValueError("not a plain setting")
    return value


def _away(error: BaseException) -> ApiError:
    log.warning("database.away", error=type(error).__name__)
    return ApiError(ErrorCode.SERVICE_UNAVAILABLE, "The database is away; try again shortly.", headers={"Retry-After": "1"})


@event.listens_for(Session, "do_orm_execute")
def _only_own_rows(state: ORMExecuteState) -> None:
    """The first wall: entities of other tenants are not found, whatever a statement forgot."""
    if not state.session.info.get("criterion"):
        return
    tenant_id = state.session.info["tenant_id"]
    state.statement = state.statement.options(
        with_loader_criteria(TenantScoped, lambda entity: entity.tenant_id == tenant_id, include_aliases=True)
    )


@event.listens_for(Session, "before_flush")
def _only_own_writes(session: Session, *_: object) -> None:
    if not session.info.get("criterion"):
        return
    for entity in (*session.new, *session.dirty):
        if isinstance(entity, TenantScoped) and entity.tenant_id != session.info["tenant_id"]:
            raise RuntimeError("an entity of another tenant in this transaction")
