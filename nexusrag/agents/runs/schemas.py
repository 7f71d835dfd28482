"""Runs on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from nexusrag.knowledge.retrieval.facade import Filters


def _says_something(text: str) -> str:
    if not any(char.isprintable() and not char.isspace() for char in text):
        raise ValueError("must hold visible characters")
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must hold printable characters only")
    return text


class RunRequest(BaseModel):
    """A question. `top_k`: passages to answer from, default the corpus's."""

    model_config = ConfigDict(extra="forbid")
    session_id: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
    corpus_id: str
    message: Annotated[str, Field(min_length=1, max_length=20_000), AfterValidator(_says_something)]
    top_k: int | None = Field(None, ge=1, le=50, strict=True)
    audio: bool = Field(False, strict=True)
    filters: Filters = {}


class RunOut(BaseModel):
    """The receipt of a run: what was asked, what it was answered from, by which model, in what time."""

    run_id: str
    state: Literal["running", "succeeded", "failed", "cancelled", "interrupted"]
    session_id: str
    corpus_id: str
    request_id: str
    question: str
    started_at: datetime
    finished_at: datetime | None
    error_code: str | None
    receipt: dict[str, Any] | None


class RunCancelled(BaseModel):
    run_id: str
    state: str
