"""What other domains may ask of audit."""

from nexusrag.security.audit.service import FailureSampler, actor, closing, denied, record_access, write

__all__ = ["FailureSampler", "actor", "closing", "denied", "record_access", "write"]
