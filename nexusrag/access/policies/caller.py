"""A caller as decisions see them: who, from where, when, and the policies that bind them, all as of one moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.decide import Decision, PolicySet, Residual
from nexusrag.kernel.actions import ACTIONS_OF, Resource
from nexusrag.kernel.principal import Principal

NO_POLICIES = PolicySet(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """`default_deny`: nothing is allowed that was not granted. `bypass`: admins need no grant."""

    principal: Principal
    attributes: Attributes
    policies: PolicySet
    default_deny: bool
    bypass: bool

    def ruling(self, resource: Resource, verb: str, columns: Mapping[str, str], parameter: str) -> Residual:
        """What policies say of all rows of a table, as SQL over `columns` (keep them as one object)."""
        return self.policies.residual(resource.value, verb, self.attributes, columns, parameter)

    def decide(self, resource: Resource, verb: str, known: Mapping[str, Any]) -> Decision:
        """What policies say of one resource."""
        return self.policies.decide(resource.value, verb, self.attributes.about(known))


def unbound(principal: Principal) -> Caller:
    """A caller for work that no grant and no policy binds: whoever holds the database's password may read all of it anyway."""
    attributes = Attributes(describe(principal), {})
    return Caller(principal=principal, attributes=attributes, policies=NO_POLICIES, default_deny=False, bypass=True)


def describe(principal: Principal) -> dict[str, Any]:
    """What policies may ask of a caller. Nothing is missing that a person may well not have: an empty text is comparable, and is none."""
    whole = ACTIONS_OF[principal.role] == principal.actions
    return {
        "id": principal.subject_id,
        "tenant_id": principal.tenant_id,
        # A custom role may cover one action of an admin's and is no admin for that.
        "role": principal.role.value if whole else principal.custom_role or "custom",
        "custom_role": principal.custom_role or "",
        "groups": sorted(principal.groups.values()),
        "group_ids": sorted(principal.groups),
        "email": principal.email or "",
        "credential": principal.credential.value,
        "credential_id": principal.credential_id,
    }
