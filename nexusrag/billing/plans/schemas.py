"""Plans on the wire."""

from datetime import datetime, timedelta
from typing import Any, Literal, Self

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from nexusrag.billing.plans.entitlements import Entitlement, TenantPlan
from nexusrag.kernel import clock
from nexusrag.kernel.features import FEATURES_OF, Feature, PlanId

_CONFIG_BYTES = 16_384
_CENTURY = timedelta(days=36_525)


class PlanFeature(BaseModel):
    """One feature. `config_json` is what operators noted for this tenant alone."""

    feature_key: str
    enabled: bool
    config_json: dict[str, Any] | None = None

    @classmethod
    def of(cls, entitlement: Entitlement) -> "PlanFeature":
        return cls(feature_key=entitlement.feature.value, enabled=entitlement.enabled, config_json=entitlement.config)


class TenantFeature(PlanFeature):
    """One feature of a tenant. `overridden`: switched on or off for it alone, whatever the plan says."""

    overridden: bool

    @classmethod
    def of(cls, entitlement: Entitlement) -> "TenantFeature":
        return cls(
            feature_key=entitlement.feature.value,
            enabled=entitlement.enabled,
            config_json=entitlement.config,
            overridden=entitlement.overridden,
        )


class PlanOut(BaseModel):
    id: str
    name: str
    is_active: bool
    features: list[PlanFeature]

    @classmethod
    def of(cls, plan: PlanId) -> "PlanOut":
        features = [PlanFeature(feature_key=feature.value, enabled=feature in FEATURES_OF[plan]) for feature in Feature]
        return cls(id=plan.value, name=plan.shown, is_active=True, features=features)


class OpenRequest(BaseModel):
    """An upgrade that the tenant has asked for and that was not decided yet."""

    request_id: int
    target_plan: str
    reason: str | None
    created_at: datetime


class TenantPlanOut(BaseModel):
    """The plan in force. Without `effective_from` none was assigned, and the tenant has the default one."""

    tenant_id: str
    plan_id: str
    plan_name: str | None
    effective_from: datetime | None
    effective_to: datetime | None
    is_active: bool
    entitlements: list[TenantFeature]
    upgrade_requests: list[OpenRequest]

    @classmethod
    def of(cls, held: TenantPlan, requests: list[OpenRequest]) -> "TenantPlanOut":
        return cls(
            tenant_id=held.tenant_id,
            plan_id=held.plan.value,
            plan_name=held.plan.shown,
            effective_from=held.effective_from,
            effective_to=held.effective_to,
            is_active=True,
            entitlements=[TenantFeature.of(one) for one in held.entitlements],
            upgrade_requests=requests,
        )


class PlanAssignment(BaseModel):
    model_config = ConfigDict(extra="forbid")
    plan_id: PlanId
    effective_to: AwareDatetime | None = Field(None, description="when the tenant falls back to the default plan; null: never")

    @field_validator("effective_to")
    @classmethod
    def _is_to_come(cls, moment: datetime | None) -> datetime | None:
        if moment is not None and not clock.now() < moment < clock.now() + _CENTURY:
            raise ValueError("must lie in the future, at most a hundred years away")
        return moment


class FeatureOverride(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")
    feature_key: Feature
    enabled: bool | None = Field(None, strict=True, description="null: as the plan has it; the configuration goes too unless one is given")
    config_json: dict[str, Any] | None = Field(None, description="kept and shown for this feature; null removes it")

    @field_validator("config_json")
    @classmethod
    def _is_small(cls, config: dict[str, Any] | None) -> dict[str, Any] | None:
        if config is not None and len(orjson.dumps(config)) > _CONFIG_BYTES:
            raise ValueError(f"may have {_CONFIG_BYTES} bytes")
        return config

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.model_fields_set & {"enabled", "config_json"}:
            raise ValueError("give enabled, config_json or both")
        return self


class UpgradeRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    target_plan: Literal["pro", "enterprise"]
    reason: str | None = Field(None, max_length=1024)


class UpgradeAccepted(BaseModel):
    request_id: int
    status: str
