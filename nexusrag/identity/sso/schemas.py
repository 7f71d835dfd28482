"""Identity providers and logins on the wire."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from nexusrag.identity.sso.models import IdentityProvider
from nexusrag.identity.sso.secrets import FORM, is_reference
from nexusrag.infra.addresses import MAX_URL
from nexusrag.kernel.actions import Role


def _reference(text: str) -> str:
    if not is_reference(text):
        raise ValueError(f"must be {FORM}; the secret itself stands nowhere in the API")
    return text


_Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"\S")]
_Url = Annotated[str, Field(min_length=1, max_length=MAX_URL)]
# Printable, without what would end it in a header of HTTP basic authentication.
_ClientId = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[!-9;-~]+$")]
_SecretRef = Annotated[str, Field(max_length=140), AfterValidator(_reference)]
_Scopes = Annotated[list[Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!#-\[\]-~]+$")]], Field(max_length=50)]
_Value = Annotated[str, Field(min_length=1, max_length=256)]
_Roles = Annotated[dict[_Value, Role], Field(max_length=1000)]


class GroupMapping(BaseModel):
    """Roles by the values of the claim `groups`, letter for letter."""

    model_config = ConfigDict(extra="forbid")
    groups: _Roles


class ClaimMapping(BaseModel):
    """Roles by the values of one claim, letter for letter."""

    model_config = ConfigDict(extra="forbid")
    claim: _Value
    mapping: _Roles


RoleMapping = GroupMapping | ClaimMapping


class ProviderCreate(BaseModel):
    """A new provider. URLs that are left out are read from the issuer's own description."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["oidc", "saml"]
    name: _Name
    issuer: _Url
    client_id: _ClientId
    client_secret_ref: _SecretRef = Field(description=FORM)
    auth_url: _Url | None = None
    token_url: _Url | None = None
    jwks_url: _Url | None = None
    userinfo_url: _Url | None = Field(None, description="asked for what the ID token does not say")
    scopes_json: _Scopes | None = None
    default_role: Role
    role_mapping_json: RoleMapping | None = Field(None, description="the highest role counts; without one that fits, default_role")
    jit_enabled: bool = False


class ProviderPatch(BaseModel):
    """What is left out, or null, stays; null takes away scopes_json, role_mapping_json and userinfo_url."""

    model_config = ConfigDict(extra="forbid")
    name: _Name | None = None
    issuer: _Url | None = None
    client_id: _ClientId | None = None
    client_secret_ref: _SecretRef | None = None
    auth_url: _Url | None = None
    token_url: _Url | None = None
    jwks_url: _Url | None = None
    userinfo_url: _Url | None = None
    scopes_json: _Scopes | None = None
    default_role: Role | None = None
    role_mapping_json: RoleMapping | None = None
    jit_enabled: bool | None = None


class SecretRotation(BaseModel):
    model_config = ConfigDict(extra="forbid")
    client_secret_ref: _SecretRef = Field(description=FORM)


class ProviderOut(BaseModel):
    """An identity provider. `client_secret_found`: the reference leads to a secret at present."""

    id: str
    tenant_id: str
    type: str
    name: str
    issuer: str
    client_id: str
    client_secret_ref: str
    client_secret_found: bool
    auth_url: str
    token_url: str
    jwks_url: str
    userinfo_url: str | None
    scopes_json: list[str] | None
    enabled: bool
    default_role: Role
    role_mapping_json: RoleMapping | None
    jit_enabled: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, provider: IdentityProvider, *, secret_found: bool) -> "ProviderOut":
        own = {name: getattr(provider, name) for name in cls.model_fields if hasattr(provider, name)}
        return cls(**own, client_secret_found=secret_found, scopes_json=provider.scopes, role_mapping_json=provider.role_mapping)


class ProviderList(BaseModel):
    items: list[ProviderOut]


class ProviderSummary(BaseModel):
    """What somebody who is not logged in may know of a provider."""

    id: str
    name: str
    type: str
    issuer: str
    auth_url: str
    scopes: list[str] | None
    jit_enabled: bool

    @classmethod
    def of(cls, provider: IdentityProvider) -> "ProviderSummary":
        return cls.model_validate(provider, from_attributes=True)


class ProviderSummaryList(BaseModel):
    items: list[ProviderSummary]


class SsoStarted(BaseModel):
    """Where to send the browser, with the cookie that this answer sets."""

    authorize_url: str


class SsoLogin(BaseModel):
    """A login that is complete. `session_token` is shown this once."""

    tenant_id: str
    provider_id: str
    user_id: str
    role: Role
    session_token: str
    expires_at: datetime
