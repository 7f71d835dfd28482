"""Outside systems that fail, and how many model calls run at once."""

from pydantic import Field

from nexusrag.settings.group import Group

_PREFIX = r"^[A-Za-z0-9][A-Za-z0-9:._-]{0,62}$"


class ResilienceSettings(Group):
    ext_retry_max_attempts: int = Field(2, ge=1, le=5, description="attempts at one call to an outside system, the first one included")
    ext_retry_backoff_ms: int = Field(200, ge=1, le=10_000, description="pause before the second attempt, doubled before each further one")
    cb_failure_threshold: int = Field(5, ge=1, le=10_000, description="failures in a row that open a circuit breaker")
    cb_open_seconds: int = Field(30, ge=1, le=3600, description="how long an open one refuses before a call is tried")
    cb_half_open_trials: int = Field(2, ge=1, le=100, description="successes, one at a time over all processes, that close it again")
    cb_redis_prefix: str = Field("nexusrag:cb", pattern=_PREFIX, description="beginning of the keys of circuit breakers in Redis")
    llm_max_concurrency: int = Field(
        64, ge=0, le=100_000, description="calls of the language model at once over all processes; 0: no common limit"
    )
    llm_slot_wait_timeout_s: float = Field(30, ge=0, le=600, description="longest wait for one of these places, then 503 SERVICE_BUSY")
    llm_slots_offline: bool = Field(False, description="answers of the extractive and fake models take such a place too")
    llm_slot_redis_prefix: str = Field("nexusrag:slots", pattern=_PREFIX, description="beginning of the keys of these places in Redis")
