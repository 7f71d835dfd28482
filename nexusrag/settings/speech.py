"""Spoken answers."""

from typing import Literal

from pydantic import Field, field_validator

from nexusrag.settings.group import Group
from nexusrag.settings.llm import http_url


class SpeechSettings(Group):
    tts_provider: Literal["none", "fake", "openai"] = Field("none", description="who speaks the answer when a run asks for audio")
    openai_tts_model: str = Field("gpt-4o-mini-tts", description="model of the openai provider")
    openai_tts_voice: str = Field("alloy", description="voice of the openai provider")
    openai_tts_base_url: str = Field("https://api.openai.com/v1", description="endpoint of the openai provider")
    tts_timeout_s: float = Field(60, gt=0, description="longest wait for a spoken answer")
    audio_base_url: str = Field("http://localhost:8000", description="prefix of audio URLs, with or without /v1")

    @field_validator("openai_tts_base_url", "audio_base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value)
