"""What other domains may ask of API keys."""

from nexusrag.identity.api_keys.stage import KeyCache, settle

__all__ = ["KeyCache", "settle"]
