"""Credentials, and who may do what."""

from typing import Literal

from pydantic import Field, SecretStr

from nexusrag.settings.group import Group


class AuthSettings(Group):
    auth_enabled: bool = Field(True, description="must be true outside development")
    auth_dev_bypass: bool = Field(False, description="accept X-Tenant-Id and X-Role instead of a key; loopback and development only")
    auth_api_key_header: str = Field("Authorization", description="header that carries `Bearer <key>`")
    auth_cache_ttl_s: float = Field(15, ge=0, le=300, description="longest age of a cached credential; revocation acts within a second")
    auth_key_pepper: SecretStr = Field(SecretStr(""), description="key of the HMAC under which API keys are stored; made by embedded mode")
    auth_key_pepper_previous: SecretStr = Field(
        SecretStr(""), description="the pepper before this one; a credential kept under it is kept under the present one from its next use"
    )
    auth_api_key_inactive_days: int = Field(90, ge=1, le=3650, description="days without use after which a key counts as inactive")
    auth_api_key_inactive_enforced: bool = Field(True, description="refuse inactive keys until an admin activates them anew")
    self_serve_max_active_keys: int = Field(20, ge=1, le=10_000, description="active keys that a tenant's admins may have made")
    authz_abac_enabled: bool = Field(True, description="evaluate policies")
    authz_default_deny: bool = Field(True, description="a document action that neither a permission nor a policy allows is denied")
    authz_max_policy_bytes: int = Field(16_384, ge=256, le=262_144, description="size of one policy's condition")
    authz_max_policy_depth: int = Field(8, ge=1, le=32, description="nesting of one policy's condition")
    authz_simulation_enabled: bool = Field(True, description="serve the simulation of policies")
    authz_require_tenant_predicate: bool = Field(True, description="must be true: each statement names its tenant")
    authz_allow_wildcards: bool = Field(False, description="accept policies for every resource type and every action at once")
    authz_admin_bypass_document_acl: bool = Field(False, description="admins reach every document of their tenant")
    default_plan: Literal["free", "pro", "enterprise"] = Field("free", description="plan of tenants that were assigned none")
    platform_operator_tenants: str = Field(
        "", description="comma-separated tenants whose admins operate the platform; empty: the first tenant"
    )
