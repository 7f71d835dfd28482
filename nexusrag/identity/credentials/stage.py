"""The authentication stage: from what the request carries to a Principal."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import structlog

from nexusrag.billing.admission.facade import Strangers
from nexusrag.identity.credentials import repository
from nexusrag.identity.credentials.access_tokens import AccessTokens, Claims
from nexusrag.identity.credentials.cache import CredentialCache
from nexusrag.identity.credentials.checks import DEV_CREDENTIAL, checked, unknown
from nexusrag.identity.tenants.facade import exists
from nexusrag.infra.database import Database, Work
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Role
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import is_tenant_id
from nexusrag.kernel.principal import PERSONAL, Credential, Principal, of_role
from nexusrag.kernel.tokens import is_well_formed, keyed_hash, kind_of
from nexusrag.security.audit.facade import actor, record_access, write
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.hosts import named_host
from nexusrag.web.stage import Stage

log = structlog.get_logger(__name__)
_TOUCH_AFTER = timedelta(minutes=1)
# The kinds of token by the word in them; access tokens, which are signed, have none.
_KINDS = {"api": Credential.API_KEY, "sess": Credential.SESSION, "scim": Credential.SCIM}


@dataclass(frozen=True, slots=True)
class _Presented:
    """What a request carries: its kind, the key under which its caller is cached, how it is looked up, and the hash to keep it under."""

    kind: Credential
    key: bytes
    find: Callable[[Work], Awaitable[Any]]
    hash: bytes | None = None


async def authenticate(call: CallContext) -> None:
    """Set the caller, or refuse with a code that says what is wrong with the credential."""
    settings = call.of(Settings).auth
    cache = call.of(CredentialCache)
    call.heard = cache.generation
    if settings.auth_dev_bypass and await _bypassed(call):
        return
    try:
        presented = _presented(call, _bearer(call, settings.auth_api_key_header))
    except ApiError:
        await call.of(Strangers).admit(call)
        raise
    principal = cache.get(presented.key)
    if principal is None:
        try:
            principal = await _look_up(call, cache, presented)
        except ApiError as error:
            # What runs without a transaction tells operators that the database is away; nothing of a tenant's is shown.
            if error.code is not ErrorCode.SERVICE_UNAVAILABLE or call.gate.transaction:
                raise
            principal = cache.last_known(presented.key)
            if principal is None:
                raise
    call.principal = principal


def _presented(call: CallContext, token: str) -> _Presented:
    """The credential in `token`, of a kind that the gate accepts. Forgeries and typing errors cost no look-up."""
    kind = _KINDS.get(kind_of(token) or "")
    if kind is not None and kind in call.gate.credentials and is_well_formed(token):
        auth = call.of(Settings).auth
        key, previous = keyed_hash(token, auth.auth_key_pepper.get_secret_value()), auth.auth_key_pepper_previous.get_secret_value()
        hashes = [key, keyed_hash(token, previous)] if previous else [key]
        return _Presented(kind, key, partial(_kept_under, hashes, kind), key)
    claims = call.of(AccessTokens).read(token) if Credential.SESSION in call.gate.credentials else None
    if claims is None:
        raise _unknown(call)
    if claims.expired:
        raise ApiError(ErrorCode.AUTH_EXPIRED_KEY, "This access token has expired; refresh it, or log in again.")
    return _Presented(Credential.SESSION, f"{claims.tid} {claims.sub} {claims.sid}".encode(), partial(_session_of, claims))


async def _kept_under(hashes: list[bytes], kind: Credential, work: Work) -> Any:
    for key_hash in hashes:
        row = await repository.find(work, kind, key_hash)
        if row is not None:
            return row
    return None


async def _session_of(claims: Claims, work: Work) -> Any:
    row = await repository.find_session(work, claims.sid)
    return row if row is not None and (row["tenant_id"], row["user_id"]) == (claims.tid, claims.sub) else None


async def _look_up(call: CallContext, cache: CredentialCache, presented: _Presented) -> Principal:
    generation = cache.generation
    database = call.of(Database)
    strange = presented.hash is not None and cache.last_known(presented.key) is None
    was_good = strange and await call.of(Strangers).admit(call, presented.key)
    async with database.work(None, reads=True) as work:
        row = await presented.find(work)
    if row is None:
        if was_good:
            await call.of(Strangers).unmasked(presented.key)
        raise _unknown(call)
    subject = row["user_id"] if presented.kind in PERSONAL else ""
    call.claimed = (row["tenant_id"], *actor(presented.kind, row["credential_id"], subject))
    try:
        principal = checked(row, presented.kind, call.of(Settings).auth)
        if presented.kind is Credential.SESSION and row["kind"] == "sso" and not call.of(Settings).identity.sso_enabled:
            raise ApiError(ErrorCode.AUTH_REVOKED_KEY, "Single sign-on is switched off here; log in by other means.")
    except ApiError as error:
        cache.refused(presented.key)
        if was_good:
            await call.of(Strangers).unmasked(presented.key)
        if presented.kind is Credential.API_KEY and error.code is ErrorCode.AUTH_EXPIRED_KEY:
            await _note_expiry(call, database, row)
        raise
    cache.put(presented.key, principal, row["expires_at"], generation)
    if strange and not was_good:
        _later(call.of(Strangers).recognised(call.address, presented.key))
    seen = row["last_used_at"]
    touch = partial(repository.touch, key_hash=presented.hash) if seen is None or clock.now() - seen > _TOUCH_AFTER else None
    _later(_note(database, principal, call.request_id, call.address, touch))
    return principal


_noting: set[asyncio.Task[None]] = set()


def _later(noting: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(noting)
    _noting.add(task)
    task.add_done_callback(_noting.discard)


async def _note(
    database: Database, principal: Principal, request_id: str, address: str | None, touch: Callable[..., Awaitable[None]] | None
) -> None:
    """What follows a successful check is not worth a wait, nor a failure."""
    try:
        await record_access(database, principal, request_id, address)
        if touch is not None:
            async with database.work(principal.tenant_id) as work:
                await touch(work, principal.credential, principal.credential_id)
    except (ApiError, asyncpg.PostgresError) as error:
        log.warning("auth.unnoted", error=type(error).__name__)


async def _note_expiry(call: CallContext, database: Database, row: Any) -> None:
    """The first refusal of an expired key goes on record as its end."""
    async with database.work(row["tenant_id"]) as work:
        if await repository.note_expiry(work, row["credential_id"]):
            await write(call, work, EventType.API_KEY_EXPIRED, {"key_id": row["credential_id"]})


async def settle() -> None:
    """Wait for notes that are being written; for shutdown."""
    await asyncio.gather(*_noting, return_exceptions=True)


def _bearer(call: CallContext, header: str) -> str:
    given = call.request.headers.getlist(header)
    if len(given) != 1:
        raise _unknown(call)
    scheme, _, token = given[0].partition(" ")
    if header.lower() != "authorization" and not token:
        return scheme
    if scheme.lower() != "bearer":
        raise _unknown(call)
    return token


async def _bypassed(call: CallContext) -> bool:
    """Development only, loopback only; the start refuses the setting anywhere else."""
    tenant = call.request.headers.get("x-tenant-id")
    client = call.request.client
    # A page in the developer's browser can reach loopback under a name of its own; it cannot leave out Origin or choose Host.
    foreign = "origin" in call.request.headers or named_host(call.request.scope) not in ("127.0.0.1", "localhost", "[::1]")
    if tenant is None or client is None or client.host not in ("127.0.0.1", "::1") or foreign:
        return False
    role = call.request.headers.get("x-role", "admin")
    if not is_tenant_id(tenant) or role not in set(Role):
        raise _unknown(call)
    if call.gate.transaction:  # what runs without one answers while the database is away
        async with call.of(Database).work(None) as work:
            if not await exists(work, tenant):
                made_by = f"`nexusrag keys create --tenant {tenant} --role admin --name dev` makes it."
                raise ApiError(ErrorCode.AUTH_UNAUTHORIZED, f"X-Tenant-Id: there is no tenant {tenant!r}; {made_by}")
    call.principal = of_role(tenant, "usr_dev", Role(role), DEV_CREDENTIAL, is_home=True)
    return True


def _unknown(call: CallContext) -> ApiError:
    return unknown(Credential.SCIM if Credential.SCIM in call.gate.credentials else Credential.API_KEY)


def _needed(gate: Gate, method: str) -> bool:
    return not gate.is_public


STAGE = Stage("authenticate", authenticate, _needed)
