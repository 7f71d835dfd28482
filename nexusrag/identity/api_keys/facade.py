"""What other domains may ask of API keys."""

from nexusrag.identity.api_keys.stage import KeyCache, check_again, settle

__all__ = ["KeyCache", "check_again", "settle"]
