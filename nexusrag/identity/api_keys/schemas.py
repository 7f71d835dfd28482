"""API keys on the wire. A secret is in the answer that makes it and nowhere else."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nexusrag.access.roles.facade import RoleChoice
from nexusrag.identity.api_keys.models import ApiKey
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Role
from nexusrag.web.envelope import Page
from nexusrag.web.times import Time

MAX_GRACE_HOURS = 30 * 24
_Days = Annotated[int, Field(ge=1, le=3650)]


class ApiKeyOut(BaseModel):
    """A key without its secret. `role` stands for `custom_role` where it has one; `is_active`: it works now, unless it is inactive."""

    key_id: str
    key_prefix: str
    name: str | None
    role: Role
    custom_role: str | None
    user_id: str
    created_at: datetime
    created_by: str | None
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None
    is_active: bool

    @classmethod
    def of(cls, key: ApiKey, bases: dict[str, Role]) -> "ApiKeyOut":
        return cls(**fields_of(key, bases))


class AdminApiKeyOut(ApiKeyOut):
    """Also how long the key has not been used, in whole days."""

    is_expired: bool
    inactive_days: int

    @classmethod
    def of(cls, key: ApiKey, bases: dict[str, Role]) -> "AdminApiKeyOut":
        idle = clock.now() - (key.last_used_at or key.created_at)
        return cls(**fields_of(key, bases), is_expired=key.is_expired, inactive_days=max(idle // timedelta(days=1), 0))


class ApiKeyList(BaseModel):
    items: list[ApiKeyOut]
    page: Page


class AdminApiKeyList(BaseModel):
    tenant_id: str
    inactive_days_threshold: int
    items: list[AdminApiKeyOut]
    page: Page


class InactiveReport(BaseModel):
    inactive_days_threshold: int
    items: list[AdminApiKeyOut]
    page: Page


class ApiKeyCreated(ApiKeyOut):
    """The new key. An answer repeated for an Idempotency-Key has null for `api_key`: revoke that key and make another."""

    api_key: str | None


class ApiKeyRotated(ApiKeyCreated):
    """The new key, and until when the old one works beside it."""

    replaces: str
    old_key_expires_at: datetime | None


class ApiKeyCreate(RoleChoice):
    """`user_id`: whose key it becomes, by default the caller's own; else that of a service, never of another person."""

    name: str | None = Field(None, max_length=128)
    expires_in_days: _Days | None = None
    user_id: str | None = None


class ApiKeyRotate(BaseModel):
    """`expires_in_days`: life of the new key, by default as long as that of the old one was."""

    model_config = ConfigDict(extra="forbid")
    grace_hours: int = Field(24, ge=0, le=MAX_GRACE_HOURS, description="how long the old key works on")
    expires_in_days: _Days | None = None


class ApiKeyPatch(BaseModel):
    """`active` true also counts as a use, so that an inactive key is active again. `expires_at` null: it never expires."""

    model_config = ConfigDict(extra="forbid")
    expires_at: Time | None = None
    active: bool | None = None
    revoke: bool | None = None
    name: str | None = Field(None, min_length=1, max_length=120)
    role: Role | None = None
    custom_role: str | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Any:
        if self.revoke and self.active:
            raise ValueError("a key cannot be revoked and activated at once")
        if self.role is not None and self.custom_role is not None:
            raise ValueError("give either role or custom_role")
        return self


def fields_of(key: ApiKey, bases: dict[str, Role]) -> dict[str, Any]:
    """What every shape shows of a key."""
    plain = ("name", "user_id", "created_at", "created_by", "last_used_at", "expires_at", "revoked_at", "replaced_by")
    role = Role(key.role) if key.custom_role_id is None else bases.get(key.custom_role_id, Role(key.role))
    return {
        **{name: getattr(key, name) for name in plain},
        "key_id": key.id,
        "key_prefix": key.prefix,
        "role": role,
        "custom_role": key.custom_role_id,
        "is_active": key.is_usable,
    }
