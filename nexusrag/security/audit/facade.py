"""What other domains may ask of audit."""

from nexusrag.security.audit.service import FailureSampler, closing, denied, record_access, write

__all__ = ["FailureSampler", "closing", "denied", "record_access", "write"]
