"""Table of provisioning tokens."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class ScimToken(TenantScoped, Base):
    """A provisioning client's credential. `hash` is keyed; the token itself is shown once and kept nowhere."""

    __tablename__ = "scim_tokens"
    id: Mapped[str] = mapped_column(primary_key=True)
    prefix: Mapped[str]
    hash: Mapped[bytes]
    created_by: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
