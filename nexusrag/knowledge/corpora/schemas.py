"""Corpora on the wire."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nexusrag.kernel.ids import CLIENT_ID_PATTERN
from nexusrag.knowledge.corpora.models import Corpus, CorpusView


class CorpusOut(BaseModel):
    """A corpus. `embedding_model` is fixed by the first document."""

    id: str
    tenant_id: str
    name: str
    visibility: Literal["restricted", "tenant"]
    provider_config_json: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, corpus: Corpus | CorpusView) -> "CorpusOut":
        return cls.model_construct(
            id=corpus.id,
            tenant_id=corpus.tenant_id,
            name=corpus.name,
            visibility=corpus.visibility,  # type: ignore[arg-type]  # the table knows these two alone
            provider_config_json=corpus.provider_config,
            created_at=corpus.created_at,
            updated_at=corpus.updated_at,
        )


class CorpusCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str | None = Field(None, pattern=CLIENT_ID_PATTERN, description="chosen by the client, else made")
    name: str = Field(min_length=1, max_length=200)
    visibility: Literal["restricted", "tenant"] = Field("restricted", description="tenant: every member may read its documents")
    provider_config_json: dict[str, Any] = {}


class CorpusPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str | None = Field(None, min_length=1, max_length=200)
    visibility: Literal["restricted", "tenant"] | None = None
    provider_config_json: dict[str, Any] | None = None


class CorpusDeletion(BaseModel):
    """The corpus is hidden; the job removes what it held."""

    corpus_id: str
    status: Literal["deleting"] = "deleting"
    job_id: str
