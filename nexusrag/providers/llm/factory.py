"""Chooses the language model of a process, by the settings."""

from nexusrag.infra.outbound import Outbound
from nexusrag.providers.embeddings.port import Embedder
from nexusrag.providers.llm.extractive import ExtractiveModel
from nexusrag.providers.llm.fake import FakeModel
from nexusrag.providers.llm.openai import OpenAIModel
from nexusrag.providers.llm.port import LanguageModel
from nexusrag.providers.llm.vertex import VertexModel
from nexusrag.settings import Settings


def open_language_model(settings: Settings, outbound: Outbound, embedder: Embedder) -> LanguageModel:
    """The model that `LLM_PROVIDER` names. Nothing is called yet: what is missing or away shows with the first question."""
    chosen = settings.llm
    match chosen.llm_provider:
        case "openai":
            return OpenAIModel(chosen, outbound)
        case "vertex":
            return VertexModel(chosen, outbound)
        case "fake":
            return FakeModel(chosen.fake_llm_deltas, chosen.fake_llm_delay_ms, chosen.llm_context_tokens)
        case "extractive":
            return ExtractiveModel(embedder, chosen.llm_context_tokens)
