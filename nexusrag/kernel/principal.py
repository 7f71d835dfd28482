"""Who is calling."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nexusrag.kernel.actions import ACTIONS_OF, Action, Role
from nexusrag.kernel.features import FEATURES_OF, Feature, PlanId


class Credential(StrEnum):
    """Kinds of credential. The first two stand for a person (or a service that is kept like one), the third for an IdP's client."""

    API_KEY = "api_key"
    SESSION = "session"
    SCIM = "scim"


PERSONAL = frozenset({Credential.API_KEY, Credential.SESSION})


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `subject_id` is the user behind the credential; `is_home`: their tenant is the home tenant.

    `role` is the least built-in role that has all of `actions`; `groups` are names by id; `features` are the tenant's.
    """

    tenant_id: str
    subject_id: str
    role: Role
    credential_id: str
    is_home: bool = False
    credential: Credential = Credential.API_KEY
    custom_role: str | None = None
    actions: frozenset[Action] = frozenset()
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)
    email: str | None = None
    plan: PlanId = PlanId.ENTERPRISE
    features: frozenset[Feature] = frozenset()

    @property
    def role_names(self) -> frozenset[str]:
        """The roles by which grants mean this caller: their custom one, and each built-in one of which they have all actions.

        An admin is a reader, too: so a key that was narrowed reaches nothing that its owner does not.
        """
        whole = {role.value for role in Role if ACTIONS_OF[role] <= self.actions}
        return frozenset(whole | {self.custom_role} if self.custom_role else whole)

    @property
    def is_admin(self) -> bool:
        return self.actions == ACTIONS_OF[Role.ADMIN]

    def may(self, action: Action) -> bool:
        """Whether the caller's role has this action."""
        return action in self.actions

    def __repr__(self) -> str:
        return f"Principal({self.tenant_id}/{self.subject_id}, {self.role})"


def of_role(
    tenant_id: str, subject_id: str, role: Role, credential_id: str, *, is_home: bool = False, plan: PlanId = PlanId.ENTERPRISE
) -> Principal:
    """A caller with all that a built-in role and a plan give, for development and for work without a credential."""
    return Principal(tenant_id, subject_id, role, credential_id, is_home, actions=ACTIONS_OF[role], plan=plan, features=FEATURES_OF[plan])
