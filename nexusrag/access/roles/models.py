"""Tables of roles."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class CustomRole(TenantScoped, Base):
    """A tenant's own role: a set of actions. `base` is the least built-in role that has them all."""

    __tablename__ = "custom_roles"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str | None]
    base: Mapped[str]
    actions: Mapped[list[str]]
    created_by: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    updated_at: Mapped[datetime] = mapped_column(Moment, default=clock.now, onupdate=clock.now)
