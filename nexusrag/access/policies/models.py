"""Tables of policies."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class StoredPolicy(TenantScoped, Base):
    """One policy of a tenant. Those of the platform, which have no tenant, are read and written by statements of their own."""

    __tablename__ = "policies"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    effect: Mapped[str]
    resource_type: Mapped[str]
    action: Mapped[str]
    condition: Mapped[dict[str, Any] | None]
    priority: Mapped[int] = mapped_column(default=100)
    enabled: Mapped[bool] = mapped_column(default=True)
    created_by: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    updated_at: Mapped[datetime] = mapped_column(Moment, default=clock.now, onupdate=clock.now)
