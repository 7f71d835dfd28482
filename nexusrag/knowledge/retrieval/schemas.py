"""Searches on the wire."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from nexusrag.knowledge.retrieval.service import Passage


def _plain_filters(filters: dict[str, Any]) -> dict[str, Any]:
    if len(filters) > 20:
        raise ValueError("at most 20 filters")
    for value in filters.values():
        values = value if isinstance(value, list) else [value]
        if not 1 <= len(values) <= 50 or not all(isinstance(one, str | int | float | bool) for one in values):
            raise ValueError("each filter is a string, number or boolean, or a list of 1 to 50 of them")
    return filters


Filters = Annotated[dict[str, Any], AfterValidator(_plain_filters)]
Question = Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"\S")]


class SearchRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    query: Question
    top_k: int | None = Field(None, ge=1, le=50, strict=True, description="default: the corpus's top_k_default")
    filters: Filters = Field({}, description="metadata that documents must have: a value, or a list of which one must match")
    document_ids: list[str] | None = Field(None, min_length=1, max_length=100)


class Scores(BaseModel):
    """By stage; `fused` orders the passages and compares only within one answer."""

    bm25: float
    cosine: float
    fused: float


class PassageOut(BaseModel):
    chunk_id: int
    document_id: str
    document_version: int
    filename: str
    text: str
    heading: list[str]
    page: int | None
    start: int
    end: int
    metadata: dict[str, Any]
    score: float
    scores: Scores

    @classmethod
    def of(cls, passage: Passage) -> "PassageOut":
        return cls(
            chunk_id=passage.chunk_id,
            document_id=passage.document_id,
            document_version=passage.version,
            filename=passage.filename,
            text=passage.text,
            heading=list(passage.heading),
            page=passage.page,
            start=passage.start,
            end=passage.end,
            metadata=passage.metadata,
            score=passage.score,
            scores=Scores(bm25=passage.bm25, cosine=passage.cosine, fused=passage.score),
        )


class SearchAnswer(BaseModel):
    """`complete`: everything visible was compared. `method`: exact, index or empty."""

    passages: list[PassageOut]
    complete: bool
    method: str
