"""What a policy says (`config_json`), read strictly: a name that means nothing is refused, since it would protect nobody."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.traffic import RouteClass
from nexusrag.settings.sla import SlaSettings

Mode = Literal["observe", "warn", "enforce"]
_Milliseconds = Annotated[float, Field(gt=0, le=3_600_000, allow_inf_nan=False)]
_ByClass = dict[Literal["run", "mutation", "read", "ops"], _Milliseconds]
# The classes that an objective is about where it does not name them.
CLASSES = (RouteClass.RUN, RouteClass.MUTATION, RouteClass.READ)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Objectives(_Part):
    """At least one. Latencies are those of whole answers, in milliseconds."""

    availability_min_pct: float | None = Field(None, gt=0, lt=100, allow_inf_nan=False)
    p95_ms_max: _ByClass = Field(default_factory=dict)
    p99_ms_max: _ByClass = Field(default_factory=dict)
    max_error_budget_burn_5m: float | None = Field(None, gt=0, le=1000, allow_inf_nan=False)


class Enforcement(_Part):
    mode: Mode | None = None
    breach_window_minutes: int = Field(5, ge=1, le=60)
    consecutive_windows_to_trigger: int | None = Field(None, ge=1, le=60)


class Mitigation(_Part):
    """In the order in which a degraded request loses them: audio, passages, output tokens, other providers than our own index."""

    allow_degrade: bool = True
    disable_tts_first: bool | None = None
    reduce_top_k_floor: int | None = Field(None, ge=1, le=50)
    cap_output_tokens: int | None = Field(None, ge=16, le=100_000)
    provider_fallback_order: list[Literal["local_pgvector"]] = Field(default_factory=list, max_length=1)


class AutoscalingLink(_Part):
    profile_id: str | None = Field(None, max_length=128)


class PolicyConfig(_Part):
    objectives: Objectives
    enforcement: Enforcement = Enforcement()
    mitigation: Mitigation = Mitigation()
    autoscaling_link: AutoscalingLink = AutoscalingLink()

    def mode(self, settings: SlaSettings) -> Mode:
        return self.enforcement.mode or settings.sla_default_enforcement_mode

    def trigger(self, settings: SlaSettings) -> int:
        """Bad windows in a row that are a breach."""
        return self.enforcement.consecutive_windows_to_trigger or settings.sla_default_breach_windows

    @property
    def classes(self) -> tuple[RouteClass, ...]:
        """The classes of routes that the policy is about."""
        named = {RouteClass(name) for name in (*self.objectives.p95_ms_max, *self.objectives.p99_ms_max)}
        everywhere = self.objectives.availability_min_pct is not None or self.objectives.max_error_budget_burn_5m is not None
        return tuple(one for one in RouteClass if one in named or (everywhere and one in CLASSES))


def read(given: Any, override: Mapping[str, Any] | None = None) -> PolicyConfig:
    """A policy's configuration, with what an assignment overrides in it. Raises SLA_POLICY_INVALID that names each fault."""
    try:
        config = PolicyConfig.model_validate(merged(given, override or {}))
    except ValidationError as error:
        faults = [{"field": ".".join(map(str, ("config_json", *fault["loc"]))), "message": fault["msg"]} for fault in error.errors()]
        raise _invalid(f"{faults[0]['field']}: {faults[0]['message']}.", faults[:20]) from error
    if not config.classes:
        raise _invalid("config_json.objectives: give at least one objective.", [{"field": "config_json.objectives", "message": "empty"}])
    return config


def merged(base: Any, override: Mapping[str, Any]) -> Any:
    """`base` with the members of `override` in place of its own, object by object."""
    if not isinstance(base, Mapping):
        return base
    whole = dict(base)
    for name, value in override.items():
        below = whole.get(name)
        whole[name] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return whole


def _invalid(message: str, faults: list[dict[str, str]]) -> ApiError:
    return ApiError(ErrorCode.SLA_POLICY_INVALID, message, {"errors": faults})
