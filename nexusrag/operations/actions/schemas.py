"""Operators' actions on the wire."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FreezeWrites(BaseModel):
    """`freeze` false lifts the freeze."""

    model_config = ConfigDict(extra="forbid")
    freeze: bool = Field(True, strict=True)
    reason: str | None = Field(None, max_length=500)


class ActionTaken(BaseModel):
    """`status` is `forced` until `expires_at`, `lifted`, or `unchanged` where there was nothing to lift."""

    action: str
    flag: str
    tenant_id: str | None
    status: Literal["forced", "lifted", "unchanged"]
    expires_at: datetime | None


class BreakerReset(BaseModel):
    """`closed`: how many breakers of the integration were not as new."""

    action: str
    integration: str
    tenant_id: str | None
    status: Literal["reset", "unchanged"]
    closed: int
