"""Writing events: those of a request's transaction, and refusals after it was rolled back."""

from collections import Counter
from time import monotonic
from typing import Any

import asyncpg
import structlog

from nexusrag.infra.database import Database, Work
from nexusrag.infra.logs import redact
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.kernel.principal import Credential, Principal
from nexusrag.security.audit import repository
from nexusrag.web.call import CallContext

log = structlog.get_logger(__name__)
# Refusals that are events of their own; others show in logs and metrics.
_REFUSALS = {
    ErrorCode.AUTH_FORBIDDEN: EventType.RBAC_FORBIDDEN,
    ErrorCode.AUTHZ_DENIED: EventType.AUTHZ_DENIED,
    ErrorCode.AUTH_UNAUTHORIZED: EventType.ACCESS_FAILURE,
    ErrorCode.AUTH_REVOKED_KEY: EventType.ACCESS_FAILURE,
    ErrorCode.AUTH_EXPIRED_KEY: EventType.ACCESS_FAILURE,
    ErrorCode.AUTH_INACTIVE_KEY: EventType.ACCESS_FAILURE,
    ErrorCode.SCIM_UNAUTHORIZED: EventType.ACCESS_FAILURE,
    ErrorCode.QUOTA_EXCEEDED: EventType.QUOTA_HARD_CAP_BLOCKED,
}
# Refusals that one tenant can have any number of, all alike: one a minute is written.
_MANY = (ErrorCode.QUOTA_EXCEEDED,)
_WINDOW_S = 60
_MOST_TOLD = 10_000


async def write(
    call: CallContext,
    work: Work,
    event: EventType,
    metadata: dict[str, Any],
    *,
    about: tuple[Resource, str] | None = None,
    error: ErrorCode | None = None,
) -> None:
    """Add `event` about this request to the transaction, and about what the gate loaded unless `about` names something else."""
    principal = call.known_principal
    tenant_id, (kind, actor_id) = (call.tenant_id, _actor(principal)) if principal else _stranger(call)
    what, key = about or (call.resource_type or call.gate.on, call.resource_id)
    await repository.insert(
        work,
        tenant_id,
        kind,
        actor_id,
        principal.role.value if principal else None,
        event.value,
        "failure" if error else "success",
        what.value if what else None,
        key,
        call.request_id,
        call.address,
        call.request.headers.get("user-agent", "")[:200],
        metadata=redact(metadata) | {"subject_id": principal.subject_id} if principal else redact(metadata),
        error_code=error.value if error else None,
    )


async def write_system(
    work: Work, event: EventType, metadata: dict[str, Any], *, about: tuple[Resource, str] | None = None, error: ErrorCode | None = None
) -> None:
    """Add `event` about what the product did by itself to the transaction, in its tenant's log."""
    kind, key = about or (None, None)
    await repository.insert(
        work, work.tenant_id, "system", None, None, event.value, "failure" if error else "success", kind.value if kind else None, key,
        None, None, None, metadata=redact(metadata), error_code=error.value if error else None,
    )  # fmt: skip


def actor(kind: Credential, credential_id: str, subject_id: str) -> tuple[str, str]:
    """Type and id under which a caller stands in the log: a person where one logged in, else the credential."""
    if kind is Credential.SESSION:
        return "user", subject_id
    return "scim_token" if kind is Credential.SCIM else "api_key", credential_id


def _actor(principal: Principal) -> tuple[str, str]:
    return actor(principal.credential, principal.credential_id, principal.subject_id)


def _stranger(call: CallContext) -> tuple[str | None, tuple[str, str | None]]:
    """Whoever was refused before they were known: the credential that was recognised, if any."""
    if call.claimed is None:
        return None, ("anonymous", None)
    tenant_id, kind, actor_id = call.claimed
    return tenant_id, (kind, actor_id)


async def closing(call: CallContext, status: int, body: bytes) -> None:
    """The gate's event, unless nothing was changed, and whatever the service added, in the request's transaction."""
    if call.gate.audit is not None and not call.unchanged:
        await write(call, call.db, call.gate.audit, call.recorded)
    for event, metadata in call.events:
        await write(call, call.db, event, metadata)


async def denied(call: CallContext, error: BaseException) -> None:
    """A refusal, in a transaction of its own. Failing to write it never changes the answer."""
    if not isinstance(error, ApiError) or (event := _REFUSALS.get(error.code)) is None:
        return
    about: dict[str, Any] = {"path": call.request.url.path[:200], "method": call.request.method}
    if call.denied_by is not None:
        event, about = EventType.POLICY_DENIED, {**about, "policy_id": call.denied_by}
    event = call.refused_as or event
    principal = call.known_principal
    tenant_id = call.tenant_id if principal else call.claimed[0] if call.claimed else None
    sampler = call.resources.get(FailureSampler)
    if principal is None and not sampler.admit(tenant_id):
        return
    if error.code in _MANY:
        if not sampler.is_news(tenant_id, error.code):
            return
        about |= error.details or {}
    try:
        async with call.of(Database).work(tenant_id) as work:
            await write(call, work, event, about, error=error.code)
    except (ApiError, asyncpg.PostgresError) as failure:
        log.error("audit.unwritten", event_type=event.value, error=type(failure).__name__, request_id=call.request_id)


async def record_access(database: Database, principal: Principal, request_id: str, address: str | None) -> None:
    """A credential was checked against the database and accepted; cached hits are not events of their own."""
    async with database.work(principal.tenant_id) as work:
        await repository.insert(
            work, principal.tenant_id, *_actor(principal), principal.role.value, EventType.ACCESS_SUCCESS.value, "success",
            principal.credential.value, principal.credential_id, request_id, address, None,
            metadata={"subject_id": principal.subject_id}, error_code=None,
        )  # fmt: skip


class FailureSampler:
    """Lets through the first failures of each second of those who are not known, so that a flood of bad keys cannot fill the disk.

    Each tenant whose credential was tried is counted by itself: no flood hides an attempt at somebody else's.
    """

    def __init__(self, per_second: int = 10) -> None:
        self._per_second = per_second
        self._second = 0
        self._counts: Counter[str | None] = Counter()
        self._told: dict[tuple[str | None, ErrorCode], float] = {}

    def admit(self, tenant_id: str | None) -> bool:
        second = int(monotonic())
        if second != self._second:
            self._second = second
            self._counts.clear()
        self._counts[tenant_id] += 1
        return self._counts[tenant_id] <= self._per_second

    def is_news(self, tenant_id: str | None, code: ErrorCode) -> bool:
        """Whether this process has let through no such refusal of the tenant's within the last minute."""
        now = monotonic()
        if self._told.get((tenant_id, code), 0) > now:
            return False
        if len(self._told) > _MOST_TOLD:
            self._told = {key: until for key, until in self._told.items() if until > now}
        self._told[tenant_id, code] = now + _WINDOW_S
        return True
