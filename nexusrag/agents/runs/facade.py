"""What other domains may ask of runs."""

from nexusrag.agents.runs.reports import RunDay, by_day, error_codes, p95_s

__all__ = ["RunDay", "by_day", "error_codes", "p95_s"]
