"""What goes into the index. Only versions are entities; the rest is written and read in bulk."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Identity
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import BigInteger

from nexusrag.infra.models import Base, Moment, TenantScoped
from nexusrag.kernel import clock

# Chunks are stemmed and queries parsed with this text-search configuration; another one would be another index.
LANGUAGE = "english"


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """One chunk: `start` and `end` are character offsets into the document's extracted text, `embedded` is what was embedded."""

    ord: int
    text: str
    embedded: str
    heading: tuple[str, ...]
    start: int
    end: int
    page: int | None
    page_end: int | None
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A complete indexing of one document. `vectors` has shape (len(chunks), dimensions), unit length."""

    document_id: str
    corpus_key: int
    space_id: int
    sha256: str
    chunk_size_chars: int
    chunk_overlap_chars: int
    pages: int | None
    chars: int
    chunks: list[IndexedChunk]
    vectors: NDArray[np.float32]


class DocumentVersion(TenantScoped, Base):
    """One indexing of one document."""

    __tablename__ = "document_versions"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    document_id: Mapped[str]
    corpus_key: Mapped[int] = mapped_column(BigInteger)
    number: Mapped[int]
    state: Mapped[str]
    sha256: Mapped[str]
    chunk_size_chars: Mapped[int]
    chunk_overlap_chars: Mapped[int]
    space_id: Mapped[int | None]
    pages: Mapped[int | None]
    chars: Mapped[int]
    num_chunks: Mapped[int]
    num_terms: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Moment, default=clock.now)
    live_at: Mapped[datetime | None] = mapped_column(Moment)
    retired_at: Mapped[datetime | None] = mapped_column(Moment)
