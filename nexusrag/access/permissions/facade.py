"""What other domains may ask of permissions."""

from nexusrag.access.permissions.provision import hand_over
from nexusrag.access.permissions.repository import applicable, caller, forget_role, grant_owner, granted, granted_on_corpus

__all__ = ["applicable", "caller", "forget_role", "grant_owner", "granted", "granted_on_corpus", "hand_over"]
