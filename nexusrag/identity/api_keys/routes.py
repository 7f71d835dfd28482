"""HTTP face of API keys: /v1/admin/api-keys and /v1/self-serve/api-keys."""

from typing import Annotated

from fastapi import Query

from nexusrag.identity.api_keys import gates, service
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
)
from nexusrag.web.call import Call, Loaded
from nexusrag.web.paging import LARGEST
from nexusrag.web.router import Router

admin = Router("admin/api-keys", tag="API keys")
self_serve = Router("self-serve/api-keys", tag="API keys")
_Limit = Annotated[int, Query(ge=1, le=LARGEST)]
_Days = Annotated[int | None, Query(ge=1, le=3650, description="days without use; by default AUTH_API_KEY_INACTIVE_DAYS")]


@admin.get("", gate=gates.LIST)
async def list_all_keys(
    call: Call,
    tenant_id: Annotated[str | None, Query(description="your own, if given")] = None,
    inactive_days: _Days = None,
    include_only_inactive: bool = False,
    limit: _Limit = LARGEST,
    cursor: str | None = None,
) -> AdminApiKeyList:
    """List the tenant's keys with how long each was not used."""
    return await service.list_all(call, inactive_days=inactive_days, only_inactive=include_only_inactive, limit=limit, cursor=cursor)


@admin.patch("/{key_id}", gate=gates.CHANGE)
async def change_key(call: Call, key: Loaded[ApiKey], body: ApiKeyPatch) -> AdminApiKeyOut:
    """Rename a key, switch it off or on, revoke it, or give it another expiry or role."""
    return await service.change(call, key, body)


@admin.post("/{key_id}/rotate", gate=gates.ROTATE)
async def rotate_key(call: Call, key: Loaded[ApiKey], body: ApiKeyRotate | None = None) -> ApiKeyRotated:
    """Make a new key in place of this one, which works on for a grace period. The new secret is shown this once."""
    return await service.rotate(call, key, body or ApiKeyRotate())


@self_serve.get("", gate=gates.LIST_OWN)
async def list_keys(call: Call, limit: _Limit = LARGEST, cursor: str | None = None) -> ApiKeyList:
    """List the tenant's keys, newest first, without secrets."""
    return await service.list_for_self_service(call, limit=limit, cursor=cursor)


@self_serve.post("", gate=gates.CREATE)
async def create_key(call: Call, body: ApiKeyCreate) -> ApiKeyCreated:
    """Make a key with a role that you have yourself. The secret is shown this once."""
    return await service.create(call, body)


@self_serve.get("/inactive-report", gate=gates.REPORT)
async def report_inactive_keys(
    call: Call, inactive_days: _Days = None, limit: _Limit = LARGEST, cursor: str | None = None
) -> InactiveReport:
    """List the keys that were not used for a while and could be revoked."""
    return await service.report_inactive(call, inactive_days=inactive_days, limit=limit, cursor=cursor)


@self_serve.post("/{key_id}/revoke", gate=gates.REVOKE)
async def revoke_key(call: Call, key: Loaded[ApiKey]) -> ApiKeyOut:
    """Revoke a key for good; it is refused everywhere within a second. Revoking it again changes nothing."""
    return await service.revoke(call, key)
