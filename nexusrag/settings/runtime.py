"""The process as a whole."""

from typing import Literal

from pydantic import Field

from nexusrag.settings.group import Group


class RuntimeSettings(Group):
    environment: Literal["development", "production"] = Field(
        "development", description="production refuses what is only safe on one's own machine"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level that is logged")
    debug_events: bool = Field(False, description="emit debug.retrieval events on runs; never in production")
