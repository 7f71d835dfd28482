"""Which model the settings choose, and which settings are refused."""

from pathlib import Path

import pytest

from nexusrag.infra.outbound import Outbound
from nexusrag.providers.embeddings.fake import FakeEmbedder
from nexusrag.providers.llm.factory import open_language_model
from nexusrag.settings import SettingsError, load


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({}, "extractive"),
        ({"LLM_PROVIDER": "fake"}, "fake"),
        ({"LLM_PROVIDER": "openai", "LLM_MODEL": "m", "OPENAI_API_KEY": "k"}, "m"),
        ({"LLM_PROVIDER": "openai", "LLM_MODEL": "m", "LLM_BASE_URL": "http://127.0.0.1:11434/v1/"}, "m"),
        ({"LLM_PROVIDER": "vertex", "GEMINI_MODEL": "g"}, "g"),
    ],
)
def test_the_provider_that_is_set_is_made_without_calling_anybody(tmp_path: Path, env: dict[str, str], name: str) -> None:
    model = open_language_model(load(tmp_path, {**env, "LLM_CONTEXT_TOKENS": "5000"}), Outbound(), FakeEmbedder())
    assert (model.name, model.context_tokens) == (name, 5000)


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"LLM_PROVIDER": "openai"}, "OPENAI_API_KEY"),
        ({"LLM_PROVIDER": "other"}, "LLM_PROVIDER"),
        ({"LLM_BASE_URL": "ftp://x"}, "LLM_BASE_URL"),
        ({"LLM_BASE_URL": "https://user:pw@x/"}, "LLM_BASE_URL"),
        ({"GOOGLE_CLOUD_LOCATION": "evil.example/"}, "GOOGLE_CLOUD_LOCATION"),
        ({"OPENAI_TTS_BASE_URL": "x"}, "OPENAI_TTS_BASE_URL"),
        ({"OUTBOUND_ALLOWED_NETWORKS": "127.0.0.0/8, 10.0.0.1/8"}, "OUTBOUND_ALLOWED_NETWORKS"),
    ],
)
def test_settings_that_cannot_work_stop_the_start_by_name(tmp_path: Path, env: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as fault:
        load(tmp_path, env)
    assert [line.split(":")[0] for line in fault.value.lines] == [named]


def test_allowed_networks_are_a_list_with_commas(tmp_path: Path) -> None:
    networks = load(tmp_path, {"OUTBOUND_ALLOWED_NETWORKS": "127.0.0.0/8, fd00::/8,"}).outbound.allowed_networks
    assert [str(network) for network in networks] == ["127.0.0.0/8", "fd00::/8"]
