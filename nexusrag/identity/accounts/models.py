"""Tables of accounts. Refresh tokens have no entity: they are only ever looked up and used."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class AuthSession(TenantScoped, Base):
    """One login: by password, with refresh tokens, or by single sign-on, with an opaque token by its keyed hash."""

    __tablename__ = "auth_sessions"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    kind: Mapped[str]
    provider_id: Mapped[str | None]
    hash: Mapped[bytes | None]
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    user_agent: Mapped[str | None]
    ip_address: Mapped[str | None]


class Invitation(TenantScoped, Base):
    """Into a tenant, for one address, with a role, by the keyed hash of its token; used once."""

    __tablename__ = "invitations"
    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str]
    role: Mapped[str]
    custom_role_id: Mapped[str | None]
    hash: Mapped[bytes]
    invited_by: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    accepted_at: Mapped[datetime | None] = mapped_column(Moment)
    accepted_by: Mapped[str | None]
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
