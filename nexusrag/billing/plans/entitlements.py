"""What a tenant has: the plan in force, and feature by feature whether it is on, why, and how operators configured it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nexusrag.kernel.features import Feature, PlanId, entitled


@dataclass(frozen=True, slots=True)
class Entitlement:
    """One feature of one tenant. `overridden`: switched for this tenant alone."""

    feature: Feature
    enabled: bool
    overridden: bool
    config: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """The plan in force; `effective_from` is None where none was assigned."""

    tenant_id: str
    plan: PlanId
    effective_from: datetime | None
    effective_to: datetime | None
    entitlements: tuple[Entitlement, ...]


def entitlements(plan: PlanId, overrides: Mapping[str, Any]) -> tuple[Entitlement, ...]:
    """Every feature there is, in the order of the catalogue. `overrides` are `{enabled, config}` by feature key."""
    switched = {key: override["enabled"] for key, override in overrides.items() if override["enabled"] is not None}
    on = entitled(plan, switched)
    return tuple(
        Entitlement(feature, feature in on, feature.value in switched, (overrides.get(feature.value) or {}).get("config"))
        for feature in Feature
    )
