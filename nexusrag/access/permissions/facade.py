"""What other domains may ask of permissions."""

from nexusrag.access.permissions.repository import caller, grant_owner, granted

__all__ = ["caller", "grant_owner", "granted"]
