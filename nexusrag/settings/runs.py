"""Answer streams."""

from pydantic import Field

from nexusrag.settings.group import Group


class RunSettings(Group):
    run_max_concurrency: int = Field(
        10, ge=1, le=100_000, description="runs at once in one process; older name: RUN_BULKHEAD_MAX_CONCURRENCY"
    )
    run_sse_heartbeat_s: float = Field(10, gt=0, description="pause after which a heartbeat is written")
    run_disconnect_grace_s: float = Field(30, ge=0, description="how long a run goes on when its client is gone")
    run_journal_ttl_s: int = Field(3600, ge=1, le=86_400, description="how long a finished run can be replayed")
    run_stall_timeout_s: float = Field(15, gt=0, description="a reader that takes nothing for this long is cut off")
    sse_flush_interval_ms: int = Field(20, ge=0, le=1000, description="events within this time share one write")
