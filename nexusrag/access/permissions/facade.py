"""What other domains may ask of permissions."""

from nexusrag.access.permissions.repository import grant_owner, granted

__all__ = ["grant_owner", "granted"]
