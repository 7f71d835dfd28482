"""What other domains may ask of speech."""

from nexusrag.agents.speech.service import Speaker, Spoken

__all__ = ["Speaker", "Spoken"]
