"""Switches on the wire."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nexusrag.kernel.switches import Rollout, Switch

Percentage = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]


class ForcedFlag(BaseModel):
    """What an operator's action forced. `tenant_id` is null where it holds for everyone."""

    key: str
    tenant_id: str | None
    value: Any
    reason: str | None
    set_by: str
    expires_at: datetime


class KillSwitches(BaseModel):
    """`sources` says of each value whether an operator forced or stored it, or the environment or the default has it."""

    kill_switches: dict[str, bool]
    sources: dict[str, str]
    forced: list[ForcedFlag]


class KillSwitchesPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kill_switches: dict[Switch, Annotated[bool, Field(strict=True)]] = Field(min_length=1)


class Canaries(BaseModel):
    """Percentages of tenants, from 0 to 100. `included`: whether the tenant that was asked about is among them; null without one."""

    canary_percentages: dict[str, int | float]
    sources: dict[str, str]
    included: dict[str, bool] | None = None


class CanariesPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    canary_percentages: dict[Rollout, Percentage] = Field(min_length=1)
