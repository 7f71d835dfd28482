"""Switches and canaries, as they stand until an operator changes them at run time."""

from pydantic import Field

from nexusrag.settings.group import Group


class RolloutSettings(Group):
    kill_run: bool = Field(False, description="refuse new runs")
    kill_ingest: bool = Field(False, description="refuse documents, and leave those that wait where they are")
    kill_tts: bool = Field(False, description="answer without audio")
    kill_external_retrieval: bool = Field(False, description="ask no retrieval provider but our own index")
    kill_notifications: bool = Field(False, description="send no webhooks; what is to be sent waits")
    rollout_tts_pct: float = Field(100, ge=0, le=100, allow_inf_nan=False, description="percentage of tenants whose answers are spoken")
    rollout_external_retrieval_pct: float = Field(
        100, ge=0, le=100, allow_inf_nan=False, description="percentage of tenants that may use other retrieval providers"
    )
    ops_forced_flag_ttl_s: int = Field(900, ge=1, le=86_400, description="after so long an operator's action ends by itself")
