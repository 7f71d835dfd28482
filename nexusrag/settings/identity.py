"""Accounts, single sign-on and provisioning."""

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from nexusrag.settings.group import Group

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,252}[a-z0-9])?|\[[0-9a-f:.]+\]")


class IdentitySettings(Group):
    auth_jwt_secret: SecretStr = Field(SecretStr(""), description="signs access tokens; made by embedded mode, demanded otherwise")
    auth_access_token_ttl_s: int = Field(900, ge=30, le=86_400, description="life of an access token")
    auth_refresh_token_ttl_days: int = Field(30, ge=1, le=365, description="life of a refresh token, and of a login without use")
    auth_registration: Literal["closed", "invitation", "open"] = Field(
        "invitation", description="who may register: nobody, the invited, or anyone (who then gets a tenant of their own)"
    )
    auth_invitation_ttl_days: int = Field(7, ge=1, le=90, description="life of an invitation")
    identity_dual_control_required: bool = Field(False, description="raising a role needs a second admin")
    sso_enabled: bool = Field(True, description="serve single sign-on; while false, sessions that came of it are refused")
    sso_allowed_redirect_hosts: str = Field(
        "", description="comma-separated hosts to which a login may return, this API's own included; in development also loopback"
    )
    sso_state_ttl_seconds: int = Field(600, ge=30, le=3600, description="how long a login may take")
    sso_nonce_ttl_seconds: int = Field(600, ge=30, le=3600, description="how long an ID token's nonce is known")
    sso_clock_skew_seconds: int = Field(120, ge=0, le=300, description="by how much clocks may differ from the identity provider's")
    sso_session_ttl_hours: int = Field(8, ge=1, le=720, description="life of a session from single sign-on")
    sso_public_discovery_enabled: bool = Field(False, description="list a tenant's identity providers to people who are not logged in")
    sso_secrets_directory: str = Field("", description="client secrets as files, in a directory for each tenant; empty: <home>/sso-secrets")
    scim_enabled: bool = Field(True, description="serve SCIM 2.0")
    scim_token_ttl_days: int = Field(365, ge=1, le=3650, description="life of a SCIM token")
    scim_default_page_size: int = Field(50, ge=1, le=1000, description="resources on a page when the client does not say")
    scim_max_page_size: int = Field(200, ge=1, le=1000, description="most resources on a page")

    @field_validator("sso_allowed_redirect_hosts")
    @classmethod
    def _hosts_are_plain(cls, value: str) -> str:
        for host in _listed(value):
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no host; name hosts alone, without https:// and without a port")
        return value

    @property
    def redirect_hosts(self) -> frozenset[str]:
        """The hosts of `sso_allowed_redirect_hosts`, in lower case."""
        return frozenset(_listed(self.sso_allowed_redirect_hosts))


def _listed(value: str) -> list[str]:
    return [host for part in value.split(",") if (host := part.strip().lower())]
