"""What goes over the wire about service levels."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nexusrag.kernel import clock
from nexusrag.web.times import Time

_Name = Annotated[str, Field(min_length=1, max_length=128)]
Tier = Literal["standard", "pro", "enterprise", "custom"]
RouteClasses = Literal["run", "mutation", "read", "ops", "documents_text"]


class PolicyIn(BaseModel):
    """A policy. `is_global`: every tenant can be assigned to it; for operators of the platform."""

    model_config = ConfigDict(extra="forbid")
    name: _Name
    tier: Tier
    enabled: bool = True
    config_json: dict[str, Any]
    version: int = Field(1, ge=1, le=1_000_000)
    is_global: bool = False


class PolicyPatch(BaseModel):
    """What is left out, or null, stays; a configuration is replaced as a whole."""

    model_config = ConfigDict(extra="forbid")
    name: _Name | None = None
    tier: Tier | None = None
    enabled: bool | None = None
    config_json: dict[str, Any] | None = None


class PolicyOut(BaseModel):
    """A policy as it is stored. Without a tenant it is one of the platform's."""

    id: str
    tenant_id: str | None
    name: str
    tier: str
    version: int
    enabled: bool
    config_json: dict[str, Any]
    created_by: str | None
    created_at: str | None
    updated_at: str | None

    @classmethod
    def of(cls, row: Any) -> "PolicyOut":
        plain = {name: row[name] for name in ("id", "tenant_id", "name", "tier", "version", "enabled", "created_by")}
        return cls(config_json=row["config"], created_at=clock.iso(row["created_at"]), updated_at=clock.iso(row["updated_at"]), **plain)


class PolicyList(BaseModel):
    items: list[PolicyOut]


class AssignmentPatch(BaseModel):
    """`override_json` has the shape of a policy's configuration; what stands in it takes the place of the policy's own."""

    model_config = ConfigDict(extra="forbid")
    policy_id: str = Field(max_length=128)
    effective_from: Time | None = None
    effective_to: Time | None = None
    override_json: dict[str, Any] | None = None


class StandingOut(BaseModel):
    """How the tenant stands in one class of routes. `bad_windows` and `good_windows` are in a row."""

    route_class: str
    status: str
    decision: str
    signal_quality: str
    bad_windows: int
    good_windows: int
    window_end: datetime
    evidence: dict[str, Any] | None


class AssignmentOut(BaseModel):
    """`active`: it binds now, since its time has come, is not over, and the policy is enabled."""

    tenant_id: str
    policy_id: str
    policy_name: str
    policy_version: int
    active: bool
    effective_from: datetime
    effective_to: datetime | None
    override_json: dict[str, Any] | None
    updated_by: str | None
    updated_at: datetime
    standing: list[StandingOut]


class MeasurementOut(BaseModel):
    """One class of routes in one window. Latencies, in milliseconds, are of answers without a fault of ours, streams to their end."""

    tenant_id: str
    route_class: str
    window: str
    window_start: datetime
    window_end: datetime
    requests: int
    failures: int
    availability_pct: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    first_event_p95_ms: float | None


class MeasurementList(BaseModel):
    items: list[MeasurementOut]


class IncidentOut(BaseModel):
    id: str
    tenant_id: str
    policy_id: str
    policy_version: int
    route_class: str
    status: str
    evidence: dict[str, Any] | None
    window_end: datetime
    opened_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None


class IncidentList(BaseModel):
    items: list[IncidentOut]


class ErrorBudget(BaseModel):
    """Percent of the budget that is left of the window's; how many times faster than allowed it was spent in the last five minutes."""

    remaining_pct: float
    burn_rate_5m: float


class SloOut(BaseModel):
    """How the caller's tenant was served; of operators of the platform: how everybody was. `p95` in milliseconds by class."""

    window: str
    scope: Literal["tenant", "platform"]
    requests: int
    availability: float
    p95: dict[str, float]
    error_budget: ErrorBudget
    status: Literal["healthy", "warning", "breached"]
    objectives: dict[str, float]
