"""Tables of permissions."""

from datetime import datetime
from typing import Any

from sqlalchemy import Text, column, table
from sqlalchemy.orm import Mapped, mapped_column

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock

# What permissions read of the people's own domain: who is in which group.
GROUP_MEMBERS: Any = table("group_members", column("tenant_id", Text), column("group_id", Text), column("user_id", Text))


class _Grant(TenantScoped):
    id: Mapped[str] = mapped_column(primary_key=True)
    principal_type: Mapped[str]
    principal_id: Mapped[str]
    permission: Mapped[str]
    granted_by: Mapped[str | None]
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)


class DocumentPermission(_Grant, Base):
    """One grant on one document."""

    __tablename__ = "document_permissions"
    document_id: Mapped[str]


class CorpusPermission(_Grant, Base):
    """One grant on one corpus, which reaches all documents in it."""

    __tablename__ = "corpus_permissions"
    corpus_id: Mapped[str]
