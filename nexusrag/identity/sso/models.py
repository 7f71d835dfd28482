"""Tables of single sign-on."""

from datetime import datetime
from typing import Any

from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class IdentityProvider(TenantScoped, Base):
    """Who vouches for people of one tenant. `client_secret_ref` says where the secret stands; it is never stored."""

    __tablename__ = "identity_providers"
    id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    name: Mapped[str]
    issuer: Mapped[str]
    client_id: Mapped[str]
    client_secret_ref: Mapped[str]
    auth_url: Mapped[str]
    token_url: Mapped[str]
    jwks_url: Mapped[str]
    userinfo_url: Mapped[str | None]
    scopes: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    enabled: Mapped[bool] = mapped_column(default=False)
    default_role: Mapped[str]
    role_mapping: Mapped[dict[str, Any] | None]
    jit_enabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    updated_at: Mapped[datetime] = mapped_column(Moment, default=clock.now, onupdate=clock.now)


class UserIdentity(TenantScoped, Base):
    """A person as a provider knows them. `jit`: they came by logging in through it, and it decides about their role."""

    __tablename__ = "user_identities"
    provider_id: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    jit: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    last_login_at: Mapped[datetime | None] = mapped_column(Moment)
