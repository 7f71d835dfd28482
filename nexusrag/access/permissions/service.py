"""Use cases of permissions: grant, take back, list. They hold from the commit on: every check reads them in its own statement."""

from collections.abc import Sequence
from typing import Any

from nexusrag.access.permissions import repository
from nexusrag.access.permissions.schemas import GrantIn
from nexusrag.kernel import clock
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.web.call import CallContext


async def grants(call: CallContext, kind: str, resource_id: str) -> list[Any]:
    """All grants on a document or corpus, those that have expired included."""
    return await repository.list_of(call.db, kind, resource_id)


async def grant(call: CallContext, kind: str, resource_id: str, asked: Sequence[GrantIn]) -> list[Any]:
    """Make all grants or none. Raises VALIDATION_ERROR for a principal that the tenant has not and an expiry that has passed."""
    now = clock.now()
    for place, one in enumerate(asked):
        if one.expires_at is not None and one.expires_at <= now:
            raise _invalid(f"permissions.{place}.expires_at", "lies in the past")
    named = {(one.principal_type, one.principal_id) for one in asked}
    for type_, principal in await repository.unknown_principals(call.db, {(str(kind_), one) for kind_, one in named}):
        place = next(place for place, one in enumerate(asked) if (one.principal_type, one.principal_id) == (type_, principal))
        raise _invalid(f"permissions.{place}.principal_id", f"this tenant has no {type_} {principal!r}")
    # Said twice, the last expiry counts.
    wanted = {(one.principal_type, one.principal_id, one.permission): one.expires_at for one in asked}
    rows = await repository.put(
        call.db, kind, resource_id, [(*key, expiry) for key, expiry in wanted.items()], granted_by=call.principal.subject_id
    )
    made = {(row["principal_type"], row["principal_id"], row["permission"]): row for row in rows}
    for row in rows:
        call.also_record(EventType.PERMISSION_GRANTED, **_named(row))
    return [made[one.principal_type, one.principal_id, one.permission] for one in asked]


async def revoke(call: CallContext, kind: str, resource_id: str, permission_id: str) -> Any:
    """Take a grant back. Raises AUTHZ_PERMISSION_NOT_FOUND."""
    row = await repository.take(call.db, kind, resource_id, permission_id)
    if row is None:
        raise ApiError(ErrorCode.AUTHZ_PERMISSION_NOT_FOUND, f"This {kind} has no such permission.")
    call.also_record(EventType.PERMISSION_REVOKED, **_named(row))
    return row


def _named(row: Any) -> dict[str, Any]:
    return {
        "permission_id": row["id"],
        "principal_type": row["principal_type"],
        "principal_id": row["principal_id"],
        "permission": row["permission"],
        "expires_at": clock.iso(row["expires_at"]),
    }


def _invalid(field: str, why: str) -> ApiError:
    return ApiError(ErrorCode.VALIDATION_ERROR, f"{field}: {why}", {"errors": [{"field": field, "message": why, "type": "value_error"}]})
