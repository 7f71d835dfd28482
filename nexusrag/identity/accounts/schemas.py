"""Accounts on the wire."""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from nexusrag.access.roles.facade import RoleChoice
from nexusrag.identity.accounts.models import AuthSession, Invitation
from nexusrag.identity.accounts.passwords import MAX_BYTES, MIN_CHARACTERS
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Role
from nexusrag.kernel.tokens import MAX_LENGTH

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


def _address(text: str) -> str:
    text = text.strip()
    if not _ADDRESS.fullmatch(text) or not text.isprintable():
        raise ValueError("is not an e-mail address")
    return text


def _short_enough(password: SecretStr) -> SecretStr:
    if len(password.get_secret_value().encode()) > MAX_BYTES:
        raise ValueError(f"must have at most {MAX_BYTES} bytes")
    return password


Email = Annotated[str, Field(max_length=254), AfterValidator(_address)]
Password = Annotated[SecretStr, AfterValidator(_short_enough)]
Token = Annotated[SecretStr, Field(max_length=MAX_LENGTH)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Registration(BaseModel):
    """A new account. `invitation_token` leads into the tenant that invited; without one, where that is allowed, a new tenant is made."""

    model_config = ConfigDict(extra="forbid")
    email: Email
    password: Annotated[Password, Field(description=f"at least {MIN_CHARACTERS} characters, at most {MAX_BYTES} bytes")]
    display_name: Name | None = None
    invitation_token: Token | None = None
    tenant_name: Name | None = Field(None, description="name of the new tenant, without an invitation")

    @model_validator(mode="after")
    def _goes_to_one_tenant(self) -> "Registration":
        if self.invitation_token is not None and self.tenant_name is not None:
            raise ValueError("give either invitation_token or tenant_name")
        return self


class Login(BaseModel):
    """`tenant_id` is needed by those alone whose password fits in several tenants."""

    model_config = ConfigDict(extra="forbid")
    email: Email
    password: Password
    tenant_id: Annotated[str, Field(max_length=63)] | None = None


class Refresh(BaseModel):
    model_config = ConfigDict(extra="forbid")
    refresh_token: Token


class PasswordChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    current_password: Password
    new_password: Password


class UserProfile(BaseModel):
    """A person. `role` is the least built-in role that has all they may do; `groups` are names."""

    id: str
    tenant_id: str
    email: str | None
    display_name: str | None
    role: Role
    custom_role: str | None
    groups: list[str]
    created_at: datetime | None
    last_login_at: datetime | None


class Me(UserProfile):
    """The caller, and the credential they call with."""

    credential: Literal["api_key", "session"]
    credential_id: str


class AuthTokens(BaseModel):
    """What a login gives. The access token goes into `Authorization: Bearer …`; the refresh token is used once, for the next pair."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="seconds for which the access token is good")
    refresh_token: str
    refresh_expires_at: datetime
    session_id: str
    user: UserProfile


class SessionOut(BaseModel):
    """A login that is good. `current`: the one that this request came with."""

    id: str
    kind: Literal["password", "sso"]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime
    ip_address: str | None
    user_agent: str | None
    current: bool

    @classmethod
    def of(cls, session: AuthSession, current_id: str) -> "SessionOut":
        fields = {name: getattr(session, name) for name in cls.model_fields if name != "current"}
        return cls.model_validate({**fields, "current": session.id == current_id})


class InvitationCreate(RoleChoice):
    """Whom to invite, and as what. The role can hold nothing that the inviter has not."""

    email: Email


class InvitationOut(BaseModel):
    """An invitation. `role` stands for a custom role wherever only the built-in ones are known."""

    id: str
    email: str
    role: Role
    custom_role: str | None
    status: Literal["pending", "accepted", "revoked", "expired"]
    invited_by: str | None
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    accepted_by: str | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, invitation: Invitation) -> "InvitationOut":
        status = "pending" if invitation.expires_at > clock.now() else "expired"
        status = "revoked" if invitation.revoked_at else "accepted" if invitation.accepted_at else status
        fields = {name: getattr(invitation, name) for name in InvitationOut.model_fields if name not in ("status", "custom_role")}
        return InvitationOut.model_validate({**fields, "status": status, "custom_role": invitation.custom_role_id})


class InvitationMade(InvitationOut):
    """A new invitation with its token, which its inviter passes on. An answer repeated for an Idempotency-Key has null for `token`:
    revoke that invitation and make another.
    """

    token: str | None
