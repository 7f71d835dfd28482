"""What other domains may ask of audit."""

from nexusrag.security.audit.reading import EVENT, kinds, mentions, page
from nexusrag.security.audit.repository import count
from nexusrag.security.audit.service import FailureSampler, actor, closing, denied, record_access, write, write_system

__all__ = [
    "EVENT", "FailureSampler", "actor", "closing", "count", "denied", "kinds", "mentions", "page", "record_access", "write", "write_system",
]  # fmt: skip
