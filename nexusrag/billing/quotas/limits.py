"""What a tenant may use: the limits of its plan, and what operators set for it alone."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any, Literal

from nexusrag.kernel.features import Feature, PlanId


@dataclass(frozen=True, slots=True)
class Quota:
    """Request units and tokens of a UTC day and a UTC month; None: no limit. `hard`: beyond a limit is refused, else only noted.

    The soft cap is reached when `soft_cap_ratio` of a limit is used.
    """

    day_units: int | None = None
    month_units: int | None = None
    day_tokens: int | None = None
    month_tokens: int | None = None
    soft_cap_ratio: float = 0.8
    hard: bool = True

    @property
    def is_unlimited(self) -> bool:
        return self.day_units is None and self.month_units is None and self.day_tokens is None and self.month_tokens is None

    @property
    def mode(self) -> Literal["enforce", "observe"]:
        return "enforce" if self.hard else "observe"

    def soft_cap(self, limit: int) -> int:
        """From how many used on the soft cap of `limit` is reached."""
        return max(1, ceil(limit * self.soft_cap_ratio))

    def reaches_soft_cap(self, day_used: int, month_used: int) -> bool:
        """Whether that many units reach the soft cap of the day or the month."""
        return any(
            limit is not None and used >= self.soft_cap(limit)
            for limit, used in ((self.day_units, day_used), (self.month_units, month_used))
        )


OF_PLAN = {
    PlanId.FREE: Quota(1_000, 10_000, None, 1_000_000),
    PlanId.PRO: Quota(20_000, 400_000, None, 50_000_000),
    PlanId.ENTERPRISE: Quota(),
}


@dataclass(frozen=True, slots=True)
class Override:
    """What operators set for one tenant; None: as the plan has it."""

    daily_requests_limit: int | None = None
    monthly_requests_limit: int | None = None
    daily_tokens_limit: int | None = None
    monthly_tokens_limit: int | None = None
    soft_cap_ratio: float | None = None
    hard_cap_enabled: bool | None = None


def resolve(plan: PlanId, features: Collection[Feature], override: Override) -> Quota:
    """The quota in force. The high quota tier has no limits but those that were set."""
    return _resolved(plan, Feature.HIGH_QUOTA_TIER in features, override)


@lru_cache(maxsize=1024)
def _resolved(plan: PlanId, high_tier: bool, override: Override) -> Quota:
    base = Quota() if high_tier else OF_PLAN[plan]
    given: dict[str, Any] = {
        "day_units": override.daily_requests_limit,
        "month_units": override.monthly_requests_limit,
        "day_tokens": override.daily_tokens_limit,
        "month_tokens": override.monthly_tokens_limit,
        "soft_cap_ratio": override.soft_cap_ratio,
        "hard": override.hard_cap_enabled,
    }
    return replace(base, **{name: value for name, value in given.items() if value is not None})
