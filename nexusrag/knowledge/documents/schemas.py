"""Documents on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from nexusrag.kernel.ids import CLIENT_ID_PATTERN

Status = Literal["queued", "processing", "succeeded", "failed"]


def _plain_name(name: str) -> str:
    """A file name for showing: no directories, no control characters, no direction marks."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(
        char for char in name if char.isprintable() and char not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    ).strip()
    return name[:255]


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(metadata) > 50:
        raise ValueError("at most 50 entries")
    labels = metadata.get("labels")
    plain = {key: value for key, value in metadata.items() if key != "labels"} if isinstance(labels, dict) else metadata
    if isinstance(labels, dict) and len(labels) > 50:
        raise ValueError("at most 50 labels")
    for key, value in (*plain.items(), *(labels.items() if isinstance(labels, dict) else ())):
        if len(key) > 64 or not all(_is_small(one) for one in (value if isinstance(value, list) and len(value) <= 50 else [value])):
            raise ValueError(
                "keys have at most 64 characters; values are strings of at most 1000 characters, numbers, booleans, or lists of up to 50 "
                "of these; `labels` is an object of such values"
            )
    return metadata


def _is_small(value: Any) -> bool:
    return isinstance(value, str | int | float | bool) and not (isinstance(value, str) and len(value) > 1000)


FileName = Annotated[str, AfterValidator(_plain_name)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]
ClientId = Annotated[str, Field(pattern=CLIENT_ID_PATTERN)]
ChunkSize = Annotated[int, Field(ge=1, le=20_000, strict=True)]
ChunkOverlap = Annotated[int, Field(ge=0, le=5_000, strict=True)]


class DocumentOut(BaseModel):
    """A document and how far it is on its way to the index. `progress`: bytes, pages, chunks_done, chunks."""

    id: str
    tenant_id: str
    corpus_id: str
    filename: str
    content_type: str
    source: str
    ingest_source: str
    status: Status
    failure_reason: str | None
    created_at: datetime
    updated_at: datetime
    queued_at: datetime | None
    processing_started_at: datetime | None
    completed_at: datetime | None
    last_reindexed_at: datetime | None
    last_job_id: str | None
    num_chunks: int | None
    size_bytes: int
    metadata: dict[str, Any]
    progress: dict[str, Any]
    version: int | None = None


class DocumentAccepted(BaseModel):
    """The document is on its way; poll `status_url`."""

    document_id: str
    status: Status
    job_id: str | None
    status_url: str


class TextIngest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    corpus_id: str
    text: str
    document_id: ClientId | None = None
    filename: FileName | None = None
    metadata_json: Metadata | None = None
    chunk_size_chars: ChunkSize | None = None
    chunk_overlap_chars: ChunkOverlap | None = None
    overwrite: bool = False


class Reindex(BaseModel):
    model_config = ConfigDict(extra="forbid")
    chunk_size_chars: ChunkSize | None = None
    chunk_overlap_chars: ChunkOverlap | None = None
