"""Tables of documents."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import BigInteger

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class Document(TenantScoped, Base):
    """One document. `live_version_id` names the indexing that searches see; `status` is that of the latest attempt at one."""

    __tablename__ = "documents"
    id: Mapped[str] = mapped_column(primary_key=True)
    corpus_id: Mapped[str]
    corpus_key: Mapped[int] = mapped_column(BigInteger)
    filename: Mapped[str]
    content_type: Mapped[str]
    # The same twice: clients read it under both names.
    source: Mapped[str]
    ingest_source: Mapped[str]
    status: Mapped[str]
    failure_reason: Mapped[str | None]
    # `metadata` is taken by SQLAlchemy's declarative base.
    labels: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    blob_id: Mapped[str]
    live_version_id: Mapped[int | None] = mapped_column(BigInteger)
    num_chunks: Mapped[int | None]
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_by: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    updated_at: Mapped[datetime] = mapped_column(Moment, default=clock.now, onupdate=clock.now)
    queued_at: Mapped[datetime | None] = mapped_column(Moment)
    processing_started_at: Mapped[datetime | None] = mapped_column(Moment)
    completed_at: Mapped[datetime | None] = mapped_column(Moment)
    last_reindexed_at: Mapped[datetime | None] = mapped_column(Moment)
    last_job_id: Mapped[str | None]

    @property
    def in_flight(self) -> bool:
        return self.status in ("queued", "processing")
