"""Tables of API keys."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class ApiKey(TenantScoped, Base):
    """A key by its keyed hash."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    name: Mapped[str | None]
    role: Mapped[str]
    custom_role_id: Mapped[str | None]
    replaced_by: Mapped[str | None]
    expiry_noted: Mapped[bool] = mapped_column(default=False)
    prefix: Mapped[str]
    hash: Mapped[bytes]
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    created_by: Mapped[str | None]
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= clock.now()

    @property
    def is_usable(self) -> bool:
        """Neither switched off nor revoked nor expired. Whether it was unused for too long is another question."""
        return self.active and self.revoked_at is None and not self.is_expired
