"""What goes over the wire about policies."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nexusrag.kernel import clock

_Name = Annotated[str, Field(min_length=1, max_length=128)]
_Term = Annotated[str, Field(min_length=1, max_length=64)]
_Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
_Condition = dict[str, Any] | None


class PolicyIn(BaseModel):
    """A policy. `condition_json` without a value always holds. `is_global`: binds every tenant; for operators of the platform."""

    model_config = ConfigDict(extra="forbid")
    name: _Name
    effect: Literal["allow", "deny"]
    resource_type: _Term
    action: _Term
    condition_json: _Condition = None
    priority: _Priority = 100
    enabled: bool = True
    is_global: bool = False


class PolicyPatch(BaseModel):
    """What is left out stays; `condition_json: null` makes the policy hold always."""

    model_config = ConfigDict(extra="forbid")
    name: _Name | None = None
    effect: Literal["allow", "deny"] | None = None
    resource_type: _Term | None = None
    action: _Term | None = None
    condition_json: _Condition = None
    priority: _Priority | None = None
    enabled: bool | None = None


class PolicyOut(BaseModel):
    """A policy as it is stored. Without a tenant it is one of the platform's."""

    id: str
    tenant_id: str | None
    name: str
    version: int
    effect: str
    resource_type: str
    action: str
    condition_json: _Condition
    priority: int
    enabled: bool
    created_by: str | None
    created_at: str | None
    updated_at: str | None

    @classmethod
    def of(cls, row: Any) -> "PolicyOut":
        plain = {name: row[name] for name in cls.model_fields if name not in ("condition_json", "created_at", "updated_at")}
        return cls(
            condition_json=row["condition"], created_at=clock.iso(row["created_at"]), updated_at=clock.iso(row["updated_at"]), **plain
        )


class PolicyList(BaseModel):
    items: list[PolicyOut]


class SimulationIn(BaseModel):
    """A supposed request. Left out: the caller themselves, a resource without attributes, this request."""

    model_config = ConfigDict(extra="forbid")
    resource_type: _Term
    action: _Term
    principal: Any = None
    resource: Any = None
    request: Any = None
    context: Any = None


class SimulationOut(BaseModel):
    """What would be decided by policies alone, this one taken as enabled. `trace` has each policy with each node of its condition."""

    allowed: bool
    reason: str
    matched_policy_id: str | None
    matched_policies: list[str]
    trace: list[dict[str, Any]]
