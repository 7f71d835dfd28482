"""Service levels: what is measured, when a policy counts as breached, and how a process protects itself from overload."""

from typing import Literal

from pydantic import Field, field_validator

from nexusrag.settings.group import Group


class SlaSettings(Group):
    sla_engine_enabled: bool = Field(True, description="measure, evaluate and enforce service levels")
    sla_default_enforcement_mode: Literal["observe", "warn", "enforce"] = Field(
        "observe", description="what a policy does that does not say it itself"
    )
    sla_default_breach_windows: int = Field(3, ge=1, le=60, description="bad windows in a row until a policy counts as breached")
    sla_measurement_window_seconds: int = Field(60, ge=1, le=60, description="length of one window; a divisor of 60")
    sla_error_budget_window_minutes: int = Field(60, ge=5, le=1440, description="the long window of burn rates, and that of /v1/ops/slo")
    sla_flush_interval_s: float = Field(5, gt=0, le=60, description="pause between two writes of a process's measurements")
    sla_retention_hours: int = Field(6, ge=1, le=168, description="how long measurements are kept")
    sla_shed_enabled: bool = Field(True, description="refuse requests of a breached policy where degrading them did not help")
    sla_degrade_tts_disable: bool = Field(True, description="degraded requests get no audio, unless the policy says otherwise")
    sla_degrade_top_k_floor: int = Field(3, ge=1, le=50, description="passages of a degraded request, unless the policy says otherwise")
    sla_degrade_max_output_tokens: int = Field(
        512, ge=16, le=100_000, description="output tokens of a degraded request, unless the policy says otherwise"
    )
    slo_availability_target: float = Field(99.9, gt=0, lt=100, description="percent of requests without a fault of ours")
    slo_p95_run_ms: int = Field(3000, ge=1, description="95th percentile of whole runs, in milliseconds")
    slo_p95_api_ms: int = Field(800, ge=1, description="95th percentile of all other requests, in milliseconds")
    overload_protection_enabled: bool = Field(True, description="refuse requests early while this process cannot keep up")
    overload_lag_ms: float = Field(
        5, ge=1, le=10_000, description="standing delay of the process's own loop that counts as overload; less while it refuses"
    )
    overload_db_wait_ms: float = Field(50, ge=1, le=10_000, description="standing wait for a database connection that counts as overload")
    overload_least_in_flight: int = Field(8, ge=1, le=100_000, description="requests at once that are never too many")

    @field_validator("sla_measurement_window_seconds")
    @classmethod
    def _divides(cls, seconds: int) -> int:
        if 60 % seconds:
            raise ValueError("must divide 60")
        return seconds
