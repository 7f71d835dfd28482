"""What use costs."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from pydantic import Field, field_validator

from nexusrag.settings.group import Group

_FIELDS = {"provider", "component", "rate_type", "rate_value_usd"}
_RATE_TYPES = {"per_1k_tokens", "per_char", "per_mb", "per_request", "per_second"}


class CostSettings(Group):
    cost_governance_enabled: bool = Field(True, description="budgets warn, block or degrade, and answers say what the month has cost")
    cost_default_warn_ratio: float = Field(0.8, gt=0, le=1, description="part of a budget from which on its tenant is warned")
    cost_default_hard_cap_mode: Literal["block", "degrade"] = Field("block", description="what an enforced budget does when it is spent")
    cost_degrade_enable_tts_disable: bool = Field(True, description="a degraded run is not spoken")
    cost_degrade_min_top_k: int = Field(3, ge=1, le=50, description="passages that a degraded run or search has at most")
    cost_degrade_max_output_tokens: int = Field(512, ge=16, description="longest answer of a degraded run")
    cost_estimator_enabled: bool = Field(True, description="estimate tokens where a provider tells no usage; false: they count as none")
    cost_estimator_token_chars_ratio: float = Field(4.0, gt=0.1, le=100, description="characters of one estimated token")
    cost_timeseries_default_days: int = Field(30, ge=1, le=366, description="days of spend that are shown unless a number is given")
    cost_platform_prices: str = Field(
        "[]",
        description="prices for every tenant that has none of its own: a JSON list of objects with provider, component, rate_type and "
        "rate_value_usd",
    )

    @field_validator("cost_platform_prices")
    @classmethod
    def _is_a_price_list(cls, value: str) -> str:
        platform_prices(value)
        return value

    @property
    def platform_prices(self) -> list[dict[str, Any]]:
        """Each with its rate as a Decimal, exactly as it was written."""
        return platform_prices(self.cost_platform_prices)


def platform_prices(value: str) -> list[dict[str, Any]]:
    """The list in `value`. Raises ValueError that says which entry is wrong."""
    try:
        entries = json.loads(value, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(entries, list):
        raise ValueError("a JSON list of prices")
    seen = set()
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or set(entry) != _FIELDS:
            raise ValueError(f"price {number} needs exactly provider, component, rate_type and rate_value_usd")
        if entry["rate_type"] not in _RATE_TYPES:
            raise ValueError(f"price {number}: rate_type is one of {', '.join(sorted(_RATE_TYPES))}")
        try:
            rate = entry["rate_value_usd"] = Decimal(entry["rate_value_usd"])
        except (InvalidOperation, TypeError, ValueError) as error:
            raise ValueError(f"price {number}: rate_value_usd is a number") from error
        if not (rate.is_finite() and 0 <= rate < 10**9):
            raise ValueError(f"price {number}: rate_value_usd is at least 0")
        key = (entry["provider"], entry["component"], entry["rate_type"])
        if not all(isinstance(part, str) and part for part in key) or key in seen:
            raise ValueError(f"price {number}: provider and component are names, and each rate of theirs is given once")
        seen.add(key)
    return entries
