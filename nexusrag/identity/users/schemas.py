"""Users, groups and changes of roles on the wire."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nexusrag.identity.users.models import Group, RoleChange, User
from nexusrag.kernel.actions import Role
from nexusrag.web.envelope import Page

_Status = Literal["active", "disabled"]
_DisplayName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class RoleChangeOut(BaseModel):
    """A role that was asked for, for a person or a group, and what became of it."""

    id: str
    user_id: str | None
    group_id: str | None
    role: Role
    custom_role: str | None
    status: Literal["pending", "approved", "rejected", "replaced", "expired"]
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None

    @classmethod
    def of(cls, change: RoleChange) -> "RoleChangeOut":
        fields = ("id", "user_id", "group_id", "role", "status", "requested_by", "expires_at", "decided_by", "decided_at")
        given = {name: getattr(change, name) for name in fields}
        return cls(**given, custom_role=change.custom_role_id, requested_at=change.created_at)


class RoleChangeList(BaseModel):
    items: list[RoleChangeOut]
    page: Page


class UserOut(BaseModel):
    """Someone of the tenant. `role` is their own, without those of their groups; it stands for `custom_role` where they have one."""

    id: str
    tenant_id: str
    external_subject: str
    email: str | None
    display_name: str | None
    status: _Status
    role: Role
    custom_role: str | None
    service: bool = Field(description="made for an API key, not for a person")
    last_login_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, user: User, bases: dict[str, Role]) -> "UserOut":
        fields = ("id", "tenant_id", "external_subject", "email", "display_name", "status", "service")
        moments = ("last_login_at", "created_at", "updated_at")
        given = {name: getattr(user, name) for name in (*fields, *moments)}
        return cls(**given, role=own_role(user, bases), custom_role=user.custom_role_id)


class UserList(BaseModel):
    items: list[UserOut]
    page: Page


class UserAction(BaseModel):
    """The user as they are now. `pending`: the role that waits for a second admin; the status of the answer is then 202."""

    id: str
    status: _Status
    role: Role
    custom_role: str | None
    pending: RoleChangeOut | None = None

    @classmethod
    def of(cls, user: User, bases: dict[str, Role], pending: RoleChangeOut | None = None) -> "UserAction":
        status: _Status = "active" if user.status == "active" else "disabled"
        return cls(id=user.id, status=status, role=own_role(user, bases), custom_role=user.custom_role_id, pending=pending)


class GroupOut(BaseModel):
    """A group. `role` is what its members get beside their own; `members` is how many there are."""

    id: str
    display_name: str
    external_id: str | None
    role: Role | None
    members: int
    created_at: datetime
    updated_at: datetime
    pending: RoleChangeOut | None = None

    @classmethod
    def of(cls, group: Group, members: int, pending: RoleChangeOut | None = None) -> "GroupOut":
        fields = ("id", "display_name", "external_id", "role", "created_at", "updated_at")
        return cls(**{name: getattr(group, name) for name in fields}, members=members, pending=pending)


class GroupList(BaseModel):
    items: list[GroupOut]
    page: Page


class GroupCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    display_name: _DisplayName


class GroupPatch(BaseModel):
    """`role` null takes the mapping away."""

    model_config = ConfigDict(extra="forbid")
    display_name: _DisplayName | None = None
    role: Role | None = None

    @model_validator(mode="after")
    def _names_something(self) -> "GroupPatch":
        if "display_name" in self.model_fields_set and self.display_name is None:
            raise ValueError("display_name cannot be null")
        return self


class MembersIn(BaseModel):
    """People to put into a group: all of them, or none when one is unknown."""

    model_config = ConfigDict(extra="forbid")
    user_ids: Annotated[list[str], Field(min_length=1, max_length=1000)]


class MemberOut(BaseModel):
    id: str
    email: str | None
    display_name: str | None
    status: _Status


class MemberList(BaseModel):
    items: list[MemberOut]
    page: Page


def own_role(user: User, bases: dict[str, Role]) -> Role:
    """The built-in role that stands for the user's own."""
    return Role(user.role) if user.custom_role_id is None else bases.get(user.custom_role_id, Role(user.role))
