"""Use cases of API keys."""

from datetime import datetime, timedelta

from nexusrag.access.permissions.facade import hand_over
from nexusrag.access.roles.facade import bases, demand_within, resolved
from nexusrag.identity.api_keys import repository
from nexusrag.identity.api_keys.models import ApiKey
from nexusrag.identity.api_keys.schemas import (
    AdminApiKeyList,
    AdminApiKeyOut,
    ApiKeyCreate,
    ApiKeyCreated,
    ApiKeyList,
    ApiKeyOut,
    ApiKeyPatch,
    ApiKeyRotate,
    ApiKeyRotated,
    InactiveReport,
    fields_of,
)
from nexusrag.identity.users.facade import User, find_user
from nexusrag.infra.changes import CREDENTIAL
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Resource, Role
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import keyed_hash, mint
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.paging import newest_first

_CENTURY = timedelta(days=36_525)


async def list_all(call: CallContext, *, inactive_days: int | None, only_inactive: bool, limit: int, cursor: str | None) -> AdminApiKeyList:
    """One page of the tenant's keys, newest first; with `only_inactive` those not used for that many days."""
    days, since = _threshold(call, inactive_days)
    statement = repository.keys(call.db, since if only_inactive else None)
    listing = f"admin/api-keys/{days if only_inactive else ''}"
    rows, page = await newest_first(call, statement, ApiKey, listing=listing, limit=limit, cursor=cursor)
    stand_ins = await bases(call.db)
    items = [AdminApiKeyOut.of(key, stand_ins) for (key,) in rows]
    return AdminApiKeyList(tenant_id=call.tenant_id, inactive_days_threshold=days, items=items, page=page)


async def list_for_self_service(call: CallContext, *, limit: int, cursor: str | None) -> ApiKeyList:
    """One page of the tenant's keys, newest first."""
    rows, page = await newest_first(call, repository.keys(call.db), ApiKey, listing="self-serve/api-keys", limit=limit, cursor=cursor)
    stand_ins = await bases(call.db)
    call.record(count=len(rows))
    return ApiKeyList(items=[ApiKeyOut.of(key, stand_ins) for (key,) in rows], page=page)


async def report_inactive(call: CallContext, *, inactive_days: int | None, limit: int, cursor: str | None) -> InactiveReport:
    """One page of the keys that were not used for that many days and not revoked."""
    found = await list_all(call, inactive_days=inactive_days, only_inactive=True, limit=limit, cursor=cursor)
    call.record(inactive_days=found.inactive_days_threshold, count=len(found.items))
    return InactiveReport(inactive_days_threshold=found.inactive_days_threshold, items=found.items, page=found.page)


async def create(call: CallContext, body: ApiKeyCreate) -> ApiKeyCreated:
    """Make a key.

    Raises AUTH_FORBIDDEN for a role with actions that the caller lacks or a key that would act as somebody else,
    VALIDATION_ERROR for an unknown role, NOT_FOUND for an unknown user, KEY_LIMIT_REACHED.
    """
    await repository.lock(call.db)
    user = await _holder(call, body.user_id or call.principal.subject_id)
    wanted = await resolved(call.db, body.role, body.custom_role)
    demand_within(call.principal, wanted.actions)
    days = body.expires_in_days
    expires_at = None if days is None else clock.now() + timedelta(days=days)
    key, secret = _mint(call, user.id, body.name, wanted.role, wanted.custom_role, expires_at)
    await _demand_room(call)
    call.about(Resource.API_KEY, key.id)
    call.record(key_id=key.id, user_id=user.id, role=key.role, custom_role=key.custom_role_id)
    return ApiKeyCreated(**fields_of(key, await bases(call.db)), api_key=secret)


async def rotate(call: CallContext, old: ApiKey, body: ApiKeyRotate) -> ApiKeyRotated:
    """A new key in place of `old`, with its user, role and grants; `old` works on until the grace is over.

    Raises what `create` does, and CONFLICT for a key that is dead or was replaced before.
    """
    if old.revoked_at is not None or old.is_expired:
        raise ApiError(ErrorCode.CONFLICT, "This key does not work any more; make a new one.")
    if old.replaced_by is not None:
        raise ApiError(ErrorCode.CONFLICT, f"This key was replaced by {old.replaced_by}; rotate that one.")
    await repository.lock(call.db)
    await _holder(call, old.user_id)
    held = await resolved(call.db, Role(old.role), old.custom_role_id)
    demand_within(call.principal, held.actions)
    now = clock.now()
    lived = old.expires_at and min(old.expires_at - old.created_at, _CENTURY)
    life = timedelta(days=body.expires_in_days) if body.expires_in_days else lived
    key, secret = _mint(call, old.user_id, old.name, held.role, held.custom_role, now + life if life else None)
    end_of_grace = now + timedelta(hours=body.grace_hours)
    old.replaced_by = key.id
    old.expires_at = end_of_grace if old.expires_at is None else min(old.expires_at, end_of_grace)
    await _demand_room(call)
    await hand_over(call.db.raw, call.tenant_id, old.id, key.id)
    await call.announce(CREDENTIAL, old.id)
    call.record(key_id=old.id, replaced_by=key.id, expires_at=clock.iso(old.expires_at))
    shown = fields_of(key, await bases(call.db))
    return ApiKeyRotated(**shown, api_key=secret, replaces=old.id, old_key_expires_at=old.expires_at)


async def change(call: CallContext, key: ApiKey, patch: ApiKeyPatch) -> AdminApiKeyOut:
    """Rename, switch off or on, revoke, or give another expiry or role; acts within a second.

    Raises CONFLICT for a revoked key that is to do more than bear another name, KEY_LIMIT_REACHED, AUTH_FORBIDDEN for a role with
    actions that the caller lacks, and for reviving or prolonging a key that has such.
    """
    await repository.lock(call.db)
    if patch.revoke:
        await _revoke(call, key, EventType.API_KEY_REVOKED)
    gives_role = patch.role is not None or patch.custom_role is not None
    if key.revoked_at is not None and (patch.active or gives_role):
        raise ApiError(ErrorCode.CONFLICT, "A revoked key stays revoked; make a new one.")
    was_usable = key.is_usable
    if patch.name is not None:
        key.name = patch.name
    if gives_role:
        wanted = await resolved(call.db, patch.role, patch.custom_role)
        demand_within(call.principal, wanted.actions)
        key.role, key.custom_role_id = wanted.role.value, wanted.custom_role
    if _lives_longer(key, patch):
        demand_within(call.principal, (await resolved(call.db, Role(key.role), key.custom_role_id)).actions)
    if "expires_at" in patch.model_fields_set:
        key.expires_at, key.expiry_noted = patch.expires_at, False
    if patch.active is not None:
        key.active = patch.active
        key.last_used_at = clock.now() if patch.active else key.last_used_at
    if key.is_usable and not was_usable:
        await _demand_room(call)
    changed = sorted(name for name in patch.model_fields_set - {"revoke"} if name == "expires_at" or getattr(patch, name) is not None)
    if changed:
        await call.announce(CREDENTIAL, key.id)
        call.also_record(EventType.API_KEY_UPDATED, key_id=key.id, changed=changed)
    return AdminApiKeyOut.of(key, await bases(call.db))


def _lives_longer(key: ApiKey, patch: ApiKeyPatch) -> bool:
    """By the patch: who may do that could hold the secret of a key that had come to its end."""
    ends, given = key.expires_at, "expires_at" in patch.model_fields_set
    return bool(patch.active) or (given and ends is not None and (patch.expires_at is None or patch.expires_at > ends))


async def revoke(call: CallContext, key: ApiKey) -> ApiKeyOut:
    """Revoke the key for good. Revoking it again changes nothing."""
    await _revoke(call, key, EventType.SELFSERVE_KEY_REVOKED)
    return ApiKeyOut.of(key, await bases(call.db))


async def _revoke(call: CallContext, key: ApiKey, event: EventType) -> None:
    """Never refused, not even for the last key of the last admin: a key that leaked must die. `nexusrag keys create` is the way back."""
    if key.revoked_at is not None:
        return
    # It holds a custom role no longer, which can then be deleted.
    key.revoked_at, key.custom_role_id = clock.now(), None
    await call.announce(CREDENTIAL, key.id)
    call.also_record(event, key_id=key.id)


async def _holder(call: CallContext, user_id: str) -> User:
    """Whose key it may become: the caller, or for admins a service. A key of another person would be a way to act as them.

    Where raising a role needs a second admin, the keys of services are not handed out either: one could be that second admin.
    """
    user = await find_user(call.db, user_id)
    if user is None:
        raise not_found("user")
    served = user.service and call.principal.is_admin and not call.of(Settings).identity.identity_dual_control_required
    if user.id != call.principal.subject_id and not served:
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, "With this key you would act as somebody else; they must make it themselves.")
    return user


def _mint(
    call: CallContext, user_id: str, name: str | None, role: Role, custom_role: str | None, expires_at: datetime | None
) -> tuple[ApiKey, str]:
    minted = mint("api", new_id("key"))
    key = ApiKey(
        tenant_id=call.tenant_id,
        id=minted.id,
        user_id=user_id,
        name=name,
        role=role.value,
        custom_role_id=custom_role,
        prefix=minted.prefix,
        hash=keyed_hash(minted.secret, call.of(Settings).auth.auth_key_pepper.get_secret_value()),
        active=True,
        created_at=clock.now(),
        created_by=call.principal.subject_id,
        expires_at=expires_at,
    )
    call.session.add(key)
    call.headers["Cache-Control"] = "no-store"
    return key, minted.secret


async def _demand_room(call: CallContext) -> None:
    most = call.of(Settings).auth.self_serve_max_active_keys
    if await repository.count_usable(call.db) > most:
        raise ApiError(ErrorCode.KEY_LIMIT_REACHED, f"The tenant has {most} active keys; revoke one first.", {"max_active_keys": most})


def _threshold(call: CallContext, inactive_days: int | None) -> tuple[int, datetime]:
    days = inactive_days or call.of(Settings).auth.auth_api_key_inactive_days
    return days, clock.now() - timedelta(days=days)
