"""Names of what operators switch while the product runs."""

from enum import StrEnum


class Switch(StrEnum):
    """Kill switches: while one is on, what it names does not happen."""

    RUN = "kill.run"
    INGEST = "kill.ingest"
    TTS = "kill.tts"
    EXTERNAL_RETRIEVAL = "kill.external_retrieval"
    NOTIFICATIONS = "kill.notifications"


class Rollout(StrEnum):
    """Canaries: what each names happens for a percentage of the tenants."""

    TTS = "rollout.tts"
    EXTERNAL_RETRIEVAL = "rollout.external_retrieval"


# Forced alone, never stored: nothing is written anywhere.
WRITE_FREEZE = "write.freeze"


def shedding(route_class: str) -> str:
    """The forced flag by which requests of a class are shed."""
    return f"shed.{route_class}"
