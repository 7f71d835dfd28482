"""Chooses who speaks, by the settings."""

from nexusrag.infra.outbound import Outbound
from nexusrag.providers.speech.openai import OpenAISpeech
from nexusrag.providers.speech.port import Speech
from nexusrag.providers.speech.silent import FakeSpeech, NoSpeech
from nexusrag.settings import Settings


def open_speech(settings: Settings, outbound: Outbound) -> Speech:
    """The speaker that `TTS_PROVIDER` names. What is missing shows when it is asked to speak."""
    match settings.speech.tts_provider:
        case "openai":
            return OpenAISpeech(settings, outbound)
        case "fake":
            return FakeSpeech()
        case "none":
            return NoSpeech()
