"""Tables of permissions."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class DocumentPermission(TenantScoped, Base):
    """One grant on one document."""

    __tablename__ = "document_permissions"
    id: Mapped[str] = mapped_column(primary_key=True)
    document_id: Mapped[str]
    principal_type: Mapped[str]
    principal_id: Mapped[str]
    permission: Mapped[str]
    granted_by: Mapped[str | None]
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
