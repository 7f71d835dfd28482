"""What other domains may ask of accounts."""

from nexusrag.identity.accounts.models import AuthSession

__all__ = ["AuthSession"]
