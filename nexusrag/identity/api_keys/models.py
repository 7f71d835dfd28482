"""Tables of users and their keys."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class User(TenantScoped, Base):
    """A person or a service of one tenant."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(primary_key=True)
    external_subject: Mapped[str]
    email: Mapped[str | None]
    display_name: Mapped[str | None]
    role: Mapped[str]
    status: Mapped[str] = mapped_column(default="active")
    last_login_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    updated_at: Mapped[datetime] = mapped_column(Moment, default=clock.now, onupdate=clock.now)


class ApiKey(TenantScoped, Base):
    """A key by its keyed hash."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    kind: Mapped[str] = mapped_column(default="api")
    name: Mapped[str | None]
    role: Mapped[str]
    prefix: Mapped[str]
    hash: Mapped[bytes]
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    created_by: Mapped[str | None]
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
