"""Credentials."""

from pydantic import Field, SecretStr

from nexusrag.settings.group import Group


class AuthSettings(Group):
    auth_enabled: bool = Field(True, description="must be true outside development")
    auth_dev_bypass: bool = Field(False, description="accept X-Tenant-Id and X-Role instead of a key; loopback and development only")
    auth_api_key_header: str = Field("Authorization", description="header that carries `Bearer <key>`")
    auth_cache_ttl_s: float = Field(15, ge=0, le=300, description="longest age of a cached credential; revocation acts within a second")
    auth_key_pepper: SecretStr = Field(SecretStr(""), description="key of the HMAC under which API keys are stored; made by embedded mode")
    authz_admin_bypass_document_acl: bool = Field(False, description="admins reach every document of their tenant")
    platform_operator_tenants: str = Field(
        "", description="comma-separated tenants whose admins operate the platform; empty: the first tenant"
    )
