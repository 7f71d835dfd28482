"""What other domains may ask of tenants."""

from nexusrag.identity.tenants.repository import exists

__all__ = ["exists"]
