"""What other domains may ask of speech."""

from nexusrag.agents.speech.service import Speaker

__all__ = ["Speaker"]
