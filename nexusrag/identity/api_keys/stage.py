"""The authentication stage: from the header to a Principal, with a cache that revocation empties within a second."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import structlog

from nexusrag.identity.api_keys.format import is_well_formed, keyed_hash
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Role
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import is_tenant_id
from nexusrag.kernel.principal import Principal
from nexusrag.security.audit.facade import record_access
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage

log = structlog.get_logger(__name__)
_MAX_CACHED = 10_000
_TOUCH_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Cached:
    principal: Principal
    expires_at: datetime | None
    until: float


class KeyCache:
    """Checked credentials by hash. Caches only while revocations are being heard."""

    def __init__(self, changes: Changes, ttl_s: float) -> None:
        self._changes = changes
        self._ttl_s = ttl_s
        self._held: OrderedDict[bytes, _Cached] = OrderedDict()
        self._by_key: dict[str, bytes] = {}
        self._generation = 0
        self._last_known: OrderedDict[bytes, _Cached] = OrderedDict()
        changes.on("api_key", self._drop, dropped=self.clear)
        changes.on("principals", lambda _: self._forget(), dropped=self.clear)

    def get(self, key_hash: bytes) -> Principal | None:
        held = self._held.get(key_hash)
        if held is None or held.until < monotonic() or (held.expires_at is not None and held.expires_at <= clock.now()):
            return None
        return held.principal

    def last_known(self, key_hash: bytes) -> Principal | None:
        """Whose key it was when last checked, for what must answer while there is no database to ask."""
        known = self._last_known.get(key_hash)
        if known is None or (known.expires_at is not None and known.expires_at <= clock.now()):
            return None
        return known.principal

    @property
    def generation(self) -> int:
        """Changes whenever something was dropped; an answer read before a drop must not be cached after it."""
        return self._generation

    def put(self, key_hash: bytes, principal: Principal, expires_at: datetime | None, generation: int) -> None:
        self._last_known[key_hash] = _Cached(principal, expires_at, 0)
        if len(self._last_known) > _MAX_CACHED:
            self._last_known.popitem(last=False)
        if not self._changes.live or generation != self._generation:
            return
        self._held[key_hash] = _Cached(principal, expires_at, monotonic() + self._ttl_s)
        self._by_key[principal.api_key_id] = key_hash
        if len(self._held) > _MAX_CACHED:
            _, oldest = self._held.popitem(last=False)
            self._by_key.pop(oldest.principal.api_key_id, None)

    def clear(self) -> None:
        self._generation += 1
        self._held.clear()
        self._by_key.clear()

    def refused(self, key_hash: bytes) -> None:
        """The database does not take this credential any more."""
        self._last_known.pop(key_hash, None)

    def _forget(self) -> None:
        self.clear()
        self._last_known.clear()

    def _drop(self, key_id: str) -> None:
        self._generation += 1
        for known in [known for known, held in self._last_known.items() if held.principal.api_key_id == key_id]:
            del self._last_known[known]
        key_hash = self._by_key.pop(key_id, None)
        if key_hash is not None:
            self._held.pop(key_hash, None)


async def authenticate(call: CallContext) -> None:
    """Set the caller, or refuse with a code that says what is wrong with the credential."""
    settings = call.of(Settings).auth
    if settings.auth_dev_bypass and _bypassed(call):
        return
    key = _bearer(call, settings.auth_api_key_header)
    if not is_well_formed(key, "api"):
        raise _unknown()
    key_hash = keyed_hash(key, settings.auth_key_pepper.get_secret_value())
    cache = call.of(KeyCache)
    principal = cache.get(key_hash)
    if principal is None:
        try:
            principal = await _look_up(call, cache, key_hash)
        except ApiError as error:
            # What runs without a transaction tells operators that the database is away; nothing of a tenant's is shown.
            if error.code is not ErrorCode.SERVICE_UNAVAILABLE or call.gate.transaction:
                raise
            principal = cache.last_known(key_hash)
            if principal is None:
                raise
    call.principal = principal


async def _look_up(call: CallContext, cache: KeyCache, key_hash: bytes) -> Principal:
    generation = cache.generation
    database = call.of(Database)
    async with database.work(None) as work:
        row = await work.raw.fetchrow("select * from auth_key($1)", key_hash)
    if row is None:
        raise _unknown()
    call.claimed = (row["tenant_id"], row["key_id"])
    try:
        principal = _principal(row)
    except ApiError:
        cache.refused(key_hash)
        raise
    cache.put(key_hash, principal, row["expires_at"], generation)
    client = call.request.client
    seen = row["last_used_at"]
    touch = seen is None or clock.now() - seen > _TOUCH_AFTER
    task = asyncio.create_task(_note(database, principal, call.request_id, client.host if client else None, touch))
    _noting.add(task)
    task.add_done_callback(_noting.discard)
    return principal


_noting: set[asyncio.Task[None]] = set()


async def _note(database: Database, principal: Principal, request_id: str, address: str | None, touch: bool) -> None:
    """What follows a successful check is not worth a wait, nor a failure."""
    try:
        await record_access(database, principal, request_id, address)
        if touch:
            async with database.work(principal.tenant_id) as work:
                await work.raw.execute(
                    "update api_keys set last_used_at = now() where tenant_id = $1 and id = $2", principal.tenant_id, principal.api_key_id
                )
    except ApiError as error:
        log.warning("auth.unnoted", error=error.code)


async def settle() -> None:
    """Wait for notes that are being written; for shutdown."""
    await asyncio.gather(*_noting, return_exceptions=True)


def _principal(row: Any) -> Principal:
    if row["tenant_status"] != "active" or row["user_status"] != "active":
        raise _unknown()
    if row["revoked_at"] is not None:
        raise ApiError(ErrorCode.AUTH_REVOKED_KEY, "This API key was revoked; ask an admin for a new one.")
    if row["expires_at"] is not None and row["expires_at"] <= clock.now():
        raise ApiError(ErrorCode.AUTH_EXPIRED_KEY, "This API key has expired; ask an admin for a new one.")
    if not row["active"]:
        raise ApiError(ErrorCode.AUTH_INACTIVE_KEY, "This API key is not active; ask an admin to activate it.")
    # A key never carries more than the person behind it has.
    role = min(Role(row["key_role"]), Role(row["user_role"]), key=lambda role: role.rank)
    return Principal(row["tenant_id"], row["user_id"], role, row["key_id"], row["is_home"])


def _bearer(call: CallContext, header: str) -> str:
    given = call.request.headers.getlist(header)
    if len(given) != 1:
        raise _unknown()
    scheme, _, key = given[0].partition(" ")
    if header.lower() != "authorization" and not key:
        return scheme
    if scheme.lower() != "bearer":
        raise _unknown()
    return key


def _bypassed(call: CallContext) -> bool:
    """Development only, loopback only; the start refuses the setting anywhere else."""
    tenant = call.request.headers.get("x-tenant-id")
    client = call.request.client
    # A page in the developer's browser can reach loopback under a name of its own; it cannot leave out Origin or choose Host.
    named = call.request.headers.get("host", "").rsplit(":", 1)[0]
    foreign = "origin" in call.request.headers or named not in ("127.0.0.1", "localhost", "[::1]")
    if tenant is None or client is None or client.host not in ("127.0.0.1", "::1") or foreign:
        return False
    role = call.request.headers.get("x-role", "admin")
    if not is_tenant_id(tenant) or role not in set(Role):
        raise _unknown()
    call.principal = Principal(tenant, "usr_dev", Role(role), "key_dev", True)
    return True


def _unknown() -> ApiError:
    return ApiError(ErrorCode.AUTH_UNAUTHORIZED, "Send a valid API key: Authorization: Bearer nrag_api_…")


def _needed(gate: Gate, method: str) -> bool:
    return not gate.is_public


STAGE = Stage("authenticate", authenticate, _needed)
