"""Roles on the wire."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nexusrag.access.roles.models import CustomRole
from nexusrag.kernel.actions import Action, Resource, Role

_Actions = Annotated[list[Action], Field(min_length=1, max_length=len(Action))]
_Name = Annotated[str, Field(min_length=1, max_length=120)]
_Description = Annotated[str, Field(max_length=500)]


class ActionOut(BaseModel):
    """An action, the kind of resource it is done to, and the least built-in role that has it; null: no role has it."""

    action: Action
    resource: Resource
    least_role: Role | None


class ActionList(BaseModel):
    items: list[ActionOut]


class RoleOut(BaseModel):
    """A role of the tenant's own. `base` is the least built-in role that has all of its actions."""

    id: str
    name: str
    description: str | None
    base: Role
    actions: list[str]
    created_by: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, role: CustomRole) -> "RoleOut":
        return cls.model_validate(role, from_attributes=True)


class RoleList(BaseModel):
    items: list[RoleOut]


class RoleDefinition(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="chosen by the client; reader, editor and admin are taken")
    name: _Name
    description: _Description | None = None
    actions: _Actions

    @field_validator("id")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if value in set(Role):
            raise ValueError("is the name of a built-in role")
        return value

    @field_validator("actions")
    @classmethod
    def _are_for_people(cls, value: list[Action]) -> list[Action]:
        return _for_people(value)


class RolePatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: _Name | None = None
    description: _Description | None = None
    actions: _Actions | None = None

    @field_validator("actions")
    @classmethod
    def _are_for_people(cls, value: list[Action] | None) -> list[Action] | None:
        return None if value is None else _for_people(value)


class RoleChoice(BaseModel):
    """A built-in role or one of the tenant's own: exactly one of them."""

    model_config = ConfigDict(extra="forbid")
    role: Role | None = None
    custom_role: str | None = Field(None, description="id of one of the tenant's own roles, instead of `role`")

    @model_validator(mode="after")
    def _is_one(self) -> Any:
        if (self.role is None) is (self.custom_role is None):
            raise ValueError("give either role or custom_role")
        return self


def _for_people(value: list[Action]) -> list[Action]:
    if Action.SCIM_PROVISION in value:
        raise ValueError(f"{Action.SCIM_PROVISION} is for provisioning clients, which have a token and no role")
    return value
