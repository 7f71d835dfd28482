"""What other domains may ask of the gateway."""

from nexusrag.inference.gateway.asked import Asked
from nexusrag.inference.gateway.service import Gateway
from nexusrag.providers.llm.port import Delta, Message, ModelError, Passage, Prompt, Usage

__all__ = ["Asked", "Delta", "Gateway", "Message", "ModelError", "Passage", "Prompt", "Usage"]
