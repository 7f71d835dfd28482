"""From a file to an index."""

from typing import Literal

from pydantic import Field

from nexusrag.settings.group import Group


class IngestionSettings(Group):
    ingest_execution_mode: Literal["queue", "inline"] = Field(
        "queue", description="inline: ingest inside the request, for tests and tiny setups"
    )
    ingest_queue_name: str = Field("ingest", description="name of the queue that carries wake-ups")
    ingest_max_retries: int = Field(3, ge=1, le=20, description="attempts at one job before it is failed")
    ingest_max_concurrency: int = Field(
        4, ge=1, le=1000, description="documents in work at once in one process; older name: INGEST_BULKHEAD_MAX_CONCURRENCY"
    )
    worker_heartbeat_interval_s: float = Field(10, gt=0, description="how often a worker reports that it lives")
    worker_heartbeat_stale_after_s: float = Field(60, gt=0, description="age from which a worker counts as gone")
    parse_timeout_s: float = Field(60, gt=0, description="longest time for parsing one document")
    parse_memory_mb: int = Field(512, ge=128, description="most memory for parsing one document")
    parse_max_pages: int = Field(5000, ge=1, description="most pages of one document")
    parse_max_text_chars: int = Field(20_000_000, ge=1000, description="most text taken from one document")
    parse_max_chunks: int = Field(100_000, ge=1, description="most chunks of one document")
    parse_processes: int = Field(2, ge=1, le=64, description="most parser processes beside one worker; started when needed")
    chunk_size_chars: int = Field(1200, ge=100, le=20_000, description="aim for the size of a chunk")
    chunk_overlap_chars: int = Field(150, ge=0, le=5_000, description="text repeated from the end of the previous chunk")
