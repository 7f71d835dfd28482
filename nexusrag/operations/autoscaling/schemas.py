"""What goes over the wire about autoscaling."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_Name = Annotated[str, Field(min_length=1, max_length=128)]
_Replicas = Annotated[int, Field(ge=1, le=10_000)]
_Target = Annotated[int, Field(ge=1, le=3_600_000)]
_Depth = Annotated[int, Field(ge=0, le=10_000_000)]
_Seconds = Annotated[int, Field(ge=0, le=86_400)]
Class = Literal["run", "mutation", "read", "ops", "ingest"]


class ProfileIn(BaseModel):
    """`global` and `route_class` are about everybody's requests and for operators of the platform; `tenant` about the caller's own."""

    model_config = ConfigDict(extra="forbid")
    name: _Name
    scope: Literal["global", "tenant", "route_class"]
    tenant_id: str | None = None
    route_class: Class | None = None
    min_replicas: _Replicas
    max_replicas: _Replicas
    target_p95_ms: _Target
    target_queue_depth: _Depth
    cooldown_seconds: _Seconds
    step_up: _Replicas
    step_down: _Replicas
    enabled: bool = True


class ProfilePatch(BaseModel):
    """What is left out, or null, stays; a null `route_class` makes the profile one of all classes."""

    model_config = ConfigDict(extra="forbid")
    name: _Name | None = None
    tenant_id: str | None = None
    route_class: Class | None = None
    min_replicas: _Replicas | None = None
    max_replicas: _Replicas | None = None
    target_p95_ms: _Target | None = None
    target_queue_depth: _Depth | None = None
    cooldown_seconds: _Seconds | None = None
    step_up: _Replicas | None = None
    step_down: _Replicas | None = None
    enabled: bool | None = None


class ProfileOut(BaseModel):
    """`replicas`: what was last recommended and carried out, or would have been."""

    id: str
    tenant_id: str
    name: str
    scope: str
    route_class: str | None
    min_replicas: int
    max_replicas: int
    target_p95_ms: int
    target_queue_depth: int
    cooldown_seconds: int
    step_up: int
    step_down: int
    enabled: bool
    replicas: int | None
    last_applied_at: datetime | None
    created_by: str | None
    created_at: datetime
    updated_at: datetime


class ProfileList(BaseModel):
    items: list[ProfileOut]


class Evaluation(BaseModel):
    """Signals that are left out are taken from what was measured in the last five minutes and from the queue."""

    model_config = ConfigDict(extra="forbid")
    profile_id: str = Field(max_length=128)
    route_class: Class
    current_replicas: _Replicas
    p95_ms: float | None = Field(None, ge=0, le=3_600_000, allow_inf_nan=False)
    queue_depth: _Depth | None = None
    signal_quality: Literal["ok", "degraded"] = "ok"


class RecommendationOut(BaseModel):
    """`signals`: what the recommendation was made by."""

    profile_id: str
    route_class: str
    action: Literal["scale_up", "scale_down", "hold"]
    reason: str
    current_replicas: int
    recommended_replicas: int
    cooldown_remaining_s: int
    dry_run: bool
    executor: str
    signals: dict[str, Any]


class ActionOut(BaseModel):
    id: str
    profile_id: str
    route_class: str
    action: str
    reason: str
    current_replicas: int
    recommended_replicas: int
    status: Literal["recommended", "dry_run", "pending", "applied", "failed"]
    executor: str
    signals: dict[str, Any]
    created_by: str | None
    created_at: datetime


class ActionList(BaseModel):
    items: list[ActionOut]
