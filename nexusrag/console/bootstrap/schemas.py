"""The console's bootstrap on the wire."""

from typing import Any

from pydantic import BaseModel

from nexusrag.billing.quotas.facade import QuotaSnapshot


class UiPrincipal(BaseModel):
    """The caller. `api_key_id` is the credential's id, of a login as well; `actions` is what the role allows, to show or hide by."""

    tenant_id: str
    role: str
    api_key_id: str
    subject_id: str
    credential: str
    custom_role: str | None
    email: str | None
    groups: list[str]
    actions: list[str]
    is_operator: bool


class UiPlan(BaseModel):
    plan_id: str
    plan_name: str | None


class UiEntitlement(BaseModel):
    enabled: bool
    config_json: dict[str, Any] | None = None


class UiApi(BaseModel):
    version: str
    release: str
    openapi_url: str


class UiBootstrap(BaseModel):
    """`entitlements` by feature key: what the plan has. `feature_flags`: what this installation offers, whatever the plan."""

    principal: UiPrincipal
    plan: UiPlan
    entitlements: dict[str, UiEntitlement]
    quota_snapshot: QuotaSnapshot
    feature_flags: dict[str, bool]
    server_time: str
    api: UiApi
