"""The language model."""

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from nexusrag.settings.group import Group

_OPENAI = "https://api.openai.com"
_LOCATION = re.compile(r"[a-z0-9-]{0,63}")


class LlmSettings(Group):
    llm_provider: Literal["extractive", "fake", "openai", "vertex"] = Field(
        "extractive", description="extractive: answers from the passages, offline, no account"
    )
    llm_base_url: str = Field(f"{_OPENAI}/v1", description="any OpenAI-compatible endpoint, for the openai provider")
    llm_usage_url: str = Field(
        "",
        description="where the endpoint says what one call took, such as https://gateway.example/usage/{call_id}, which is also the call's "
        "X-Client-Request-Id; asked about runs that broke off. Answer: "
        '{"usage": {"prompt_tokens": 1, "completion_tokens": 1}}, or 404',
    )
    llm_model: str = Field("gpt-4o-mini", description="model name for the openai provider")
    openai_api_key: SecretStr = Field(SecretStr(""), description="key of the OpenAI-compatible endpoint, for models and speech")
    llm_context_tokens: int = Field(16000, ge=1000, description="window of the model; history and passages are trimmed to it")
    llm_max_output_tokens: int = Field(1024, ge=16, description="longest answer")
    llm_first_token_timeout_s: float = Field(30, gt=0, description="longest wait for the first token")
    llm_stall_timeout_s: float = Field(20, gt=0, description="longest wait between tokens")
    llm_total_timeout_s: float = Field(300, gt=0, description="longest answer in time")
    google_cloud_project: str = Field("", description="project of the vertex provider")
    google_cloud_location: str = Field("", description="region of the vertex provider")
    vertex_location: str = Field("", description="other name of GOOGLE_CLOUD_LOCATION, which wins")
    gemini_model: str = Field("gemini-2.0-flash-001", description="model of the vertex provider")
    vertex_base_url: str = Field("", description="endpoint of the vertex provider, where it is not Google's own for the region")
    fake_llm_deltas: int = Field(20, ge=1, le=100_000, description="tokens that the fake provider emits")
    fake_llm_delay_ms: float = Field(0, ge=0, description="pause before each of them")

    @field_validator("llm_base_url", "vertex_base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value) if value else value

    @field_validator("llm_usage_url")
    @classmethod
    def _names_the_call(cls, value: str) -> str:
        if value and value.count("{call_id}") != 1:
            raise ValueError("an address of usage has {call_id} where the call is named")
        return http_url(value) if value else value

    @field_validator("google_cloud_location", "vertex_location")
    @classmethod
    def _is_location(cls, value: str) -> str:
        if not _LOCATION.fullmatch(value):
            raise ValueError("a region is lower-case letters, digits and hyphens, such as europe-west4")
        return value

    @model_validator(mode="after")
    def _openai_needs_its_key(self) -> Self:
        if self.llm_provider == "openai" and self.llm_base_url.startswith(_OPENAI) and not self.openai_api_key.get_secret_value():
            raise ValueError("OPENAI_API_KEY: needed when LLM_PROVIDER=openai calls api.openai.com")
        return self


def http_url(value: str) -> str:
    """`value` without a trailing slash. Raises ValueError unless it is an http(s) URL with a host and without credentials."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address begins with http:// or https:// and names a host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("an address holds no user name, query or fragment")
    return value.rstrip("/")
