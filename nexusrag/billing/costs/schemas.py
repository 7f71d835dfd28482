"""Costs on the wire."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema, field_validator

from nexusrag.billing.costs.prices import METERED, Price, RateType
from nexusrag.kernel import money

_METADATA_BYTES = 16_384


def _number(amount: Decimal) -> float:
    return float(money.shown(amount))


# A number of 6 places.
Usd = Annotated[Decimal, PlainSerializer(_number, return_type=float, when_used="json"), WithJsonSchema({"type": "number"})]
# A rate may be far below a micro-dollar: all its digits, as a number.
Rate = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json"), WithJsonSchema({"type": "number"})]
_Number = Annotated[
    float | str, Field(union_mode="left_to_right", description="taken exactly as it is written; text where a client has no exact numbers")
]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]


class PriceCreate(BaseModel):
    """A price. `provider` may name one model (`openai/gpt-4o`); `llm.input` and `llm.output` narrow the component `llm`."""

    model_config = ConfigDict(extra="forbid")
    version: Annotated[str, Field(min_length=1, max_length=64)]
    provider: Name
    component: Name
    rate_type: RateType
    rate_value_usd: _Number
    effective_from: AwareDatetime
    effective_to: AwareDatetime | None = Field(None, description="up to, not including; null: until another decision")
    active: bool = Field(True, strict=True)
    metadata_json: dict[str, Any] | None = None

    @field_validator("metadata_json")
    @classmethod
    def _is_small(cls, metadata: dict[str, Any] | None) -> dict[str, Any] | None:
        if metadata is not None and len(orjson.dumps(metadata)) > _METADATA_BYTES:
            raise ValueError(f"may have {_METADATA_BYTES} bytes")
        return metadata


class PriceChange(BaseModel):
    """What is left out stays as it is. A rate is never changed: end this price and add another."""

    model_config = ConfigDict(extra="forbid")
    effective_to: AwareDatetime | None = None
    active: bool | None = Field(None, strict=True)


class PriceOut(BaseModel):
    """`scope`: the tenant's own, or the platform's for those who have none. `metered`: whether use is ever measured so."""

    id: str
    version: str
    provider: str
    component: str
    rate_type: str
    rate_value_usd: Rate
    effective_from: datetime
    effective_to: datetime | None
    active: bool
    metadata_json: dict[str, Any] | None
    scope: Literal["tenant", "platform"]
    metered: bool

    @classmethod
    def of(cls, price: Price) -> "PriceOut":
        platform = price.id.startswith(("builtin:", "platform:"))
        return cls(
            id=price.id,
            version=price.version,
            provider=price.provider,
            component=price.component,
            rate_type=price.rate_type,
            rate_value_usd=price.rate_usd,
            effective_from=price.effective_from,
            effective_to=price.effective_to,
            active=price.active,
            metadata_json=None,
            scope="platform" if platform else "tenant",
            metered=price.rate_type in METERED.get(price.component, ()),
        )

    @classmethod
    def of_row(cls, row: Any) -> "PriceOut":
        fields = {name: row[name] for name in cls.model_fields if name not in ("scope", "metered")}
        return cls(**fields, scope="tenant", metered=row["rate_type"] in METERED.get(row["component"], ()))


class PriceList(BaseModel):
    items: list[PriceOut]


class PriceInForce(BaseModel):
    """The price that a unit used at `at` is charged by."""

    at: datetime
    price: PriceOut


class BudgetChange(BaseModel):
    """What is left out stays as it is; null is the installation's default, and no budget at all for amounts."""

    model_config = ConfigDict(extra="forbid")
    monthly_budget_usd: _Number | None = Field(None, description="at least 0")
    warn_ratio: _Number | None = Field(None, description="more than 0, at most 1")
    enforce_hard_cap: bool | None = Field(None, strict=True)
    hard_cap_mode: str | None = Field(None, description="block or degrade")
    current_month_override_usd: _Number | None = Field(None, description="instead of the monthly budget, until this UTC month ends")


class BudgetOut(BaseModel):
    """What was set, with the installation's defaults, and where the month stands. `month_spend_usd` counts work under way."""

    tenant_id: str
    monthly_budget_usd: Usd | None
    warn_ratio: float
    enforce_hard_cap: bool
    hard_cap_mode: str
    current_month_override_usd: Usd | None
    created_at: datetime | None
    updated_at: datetime | None
    month: str
    month_budget_usd: Usd | None
    month_spend_usd: Usd
    month_remaining_usd: Usd | None
    status: Literal["ok", "warn", "capped", "degraded"]


class SpendSummary(BaseModel):
    """Settled dollars of a UTC month. The parts of each grouping add up to `total_usd`. `held_usd`: reserved by work under way."""

    period: Literal["month"]
    year_month: str
    total_usd: Usd
    by_component: dict[str, Usd]
    by_provider: dict[str, Usd]
    by_route_class: dict[str, Usd]
    held_usd: Usd


class SpendPoint(BaseModel):
    """`ts` is where the hour or day (UTC) begins."""

    ts: datetime
    total_usd: Usd


class SpendTimeseries(BaseModel):
    window_days: int
    granularity: Literal["day", "hour"]
    points: list[SpendPoint]


class SpendBreakdown(BaseModel):
    period: Literal["month"]
    year_month: str
    by: str
    breakdown: dict[str, Usd]
    total_usd: Usd


class ChargebackReport(BaseModel):
    """`breakdown_json`: dollars by component, provider, route class, user and key, and (of one report) its lines."""

    id: str
    tenant_id: str
    period_start: datetime
    period_end: datetime
    currency: str
    total_usd: Usd
    breakdown_json: dict[str, Any] | None
    generated_at: datetime
    generated_by: str | None


class ChargebackReports(BaseModel):
    items: list[ChargebackReport]
