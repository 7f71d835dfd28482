"""What other domains may ask of roles."""

from nexusrag.access.roles.assignment import Assigned, demand_within, resolved
from nexusrag.access.roles.operators import is_operator, operates
from nexusrag.access.roles.repository import bases, hold
from nexusrag.access.roles.schemas import RoleChoice

__all__ = ["Assigned", "RoleChoice", "bases", "demand_within", "hold", "is_operator", "operates", "resolved"]
