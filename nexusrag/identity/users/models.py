"""Tables of users, groups, and changes of roles that wait for a second admin."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class User(TenantScoped, Base):
    """A person of one tenant, or a `service`, which was made for a key."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(primary_key=True)
    external_subject: Mapped[str]
    email: Mapped[str | None]
    display_name: Mapped[str | None]
    role: Mapped[str]
    custom_role_id: Mapped[str | None]
    user_name: Mapped[str | None]
    external_id: Mapped[str | None]
    password_hash: Mapped[str | None]
    email_verified: Mapped[bool] = mapped_column(default=False)
    scim: Mapped[dict[str, Any] | None]
    version: Mapped[int] = mapped_column(default=1)
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)
    service: Mapped[bool] = mapped_column(default=False)
    status: Mapped[str] = mapped_column(default="active")
    last_login_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    updated_at: Mapped[datetime] = mapped_column(Moment, default=clock.now, onupdate=clock.now)


class Group(TenantScoped, Base):
    """People of one tenant under one name. `role` is what an admin mapped the group to."""

    __tablename__ = "groups"
    id: Mapped[str] = mapped_column(primary_key=True)
    display_name: Mapped[str]
    external_id: Mapped[str | None]
    role: Mapped[str | None]
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    updated_at: Mapped[datetime] = mapped_column(Moment, default=clock.now, onupdate=clock.now)


class GroupMember(TenantScoped, Base):
    """One person in one group."""

    __tablename__ = "group_members"
    user_id: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(primary_key=True)
    added_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)


class RoleChange(TenantScoped, Base):
    """A role that somebody asked for, for a person or for a group."""

    __tablename__ = "role_changes"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str | None]
    group_id: Mapped[str | None]
    role: Mapped[str]
    custom_role_id: Mapped[str | None]
    requested_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None] = mapped_column(Moment)
    outcome: Mapped[str | None]

    @property
    def status(self) -> str:
        """pending, approved, rejected, replaced or expired."""
        return self.outcome or ("pending" if self.expires_at > clock.now() else "expired")
