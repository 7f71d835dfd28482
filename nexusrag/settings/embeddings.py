"""The embedding model."""

from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from nexusrag.settings.group import Group
from nexusrag.settings.llm import http_url

T = TypeVar("T", str, int)


class EmbeddingSettings(Group):
    embedding_provider: Literal["local", "fake", "openai"] = Field(
        "local", description="local: all-MiniLM-L6-v2 on this machine, no account"
    )
    embedding_model: str = Field("", validate_default=True, description="model name for the openai provider")
    embedding_dimensions: int = Field(0, ge=0, le=4000, validate_default=True, description="length of its vectors, for the openai provider")
    embedding_base_url: str = Field("https://api.openai.com/v1", description="any OpenAI-compatible endpoint")
    embedding_api_key: SecretStr = Field(SecretStr(""), description="its key")
    embedding_threads: int = Field(2, ge=1, le=64, description="batches that the local model computes at once, each on one processor")

    @field_validator("embedding_model", "embedding_dimensions")
    @classmethod
    def _openai_is_described(cls, value: T, info: ValidationInfo) -> T:
        if not value and info.data.get("embedding_provider") == "openai":
            raise ValueError("needed when EMBEDDING_PROVIDER=openai")
        return value

    @field_validator("embedding_base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value)
