"""What other domains may ask of policies."""

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.cache import Policies
from nexusrag.access.policies.caller import NO_POLICIES, Caller, describe, unbound
from nexusrag.access.policies.decide import Decision, PolicySet, Residual
from nexusrag.access.policies.service import read
from nexusrag.access.policies.stage import caller_of, refuse

__all__ = [
    "NO_POLICIES",
    "Attributes",
    "Caller",
    "Decision",
    "Policies",
    "PolicySet",
    "Residual",
    "caller_of",
    "describe",
    "read",
    "refuse",
    "unbound",
]
