"""Tables of corpora, and a corpus as those see it who only read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Identity
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import BigInteger

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock


class Corpus(TenantScoped, Base):
    """A named set of documents. `key` is its number inside the index; ids are the tenant's own."""

    __tablename__ = "corpora"
    id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    name: Mapped[str]
    visibility: Mapped[str] = mapped_column(default="restricted")
    provider_config: Mapped[dict[str, Any]]
    space_id: Mapped[int | None]
    created_by: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    updated_at: Mapped[datetime] = mapped_column(Moment, default=clock.now, onupdate=clock.now)
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)


@dataclass(frozen=True, slots=True)
class CorpusView:
    """A corpus as it stands, for those who do not change it: no entity, since runs and searches load one each time."""

    tenant_id: str
    id: str
    key: int
    name: str
    visibility: str
    provider_config: dict[str, Any]
    space_id: int | None
    created_by: str | None
    created_at: datetime
    updated_at: datetime
