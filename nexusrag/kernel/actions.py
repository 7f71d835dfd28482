"""Roles, the actions of the product with the least role for each, and the kinds of resource that a gate can name."""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum


class Role(StrEnum):
    """Each role may do all that the roles before it may."""

    READER = "reader"
    EDITOR = "editor"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {Role.READER: 0, Role.EDITOR: 1, Role.ADMIN: 2}


class Action(StrEnum):
    CORPORA_READ = "corpora.read"
    CORPORA_WRITE = "corpora.write"
    CORPORA_CREATE = "corpora.create"
    CORPORA_DELETE = "corpora.delete"
    CORPORA_SEARCH = "corpora.search"
    DOCUMENTS_READ = "documents.read"
    DOCUMENTS_CREATE = "documents.create"
    DOCUMENTS_DELETE = "documents.delete"
    DOCUMENTS_REINDEX = "documents.reindex"
    RUNS_CREATE = "runs.create"
    RUNS_READ = "runs.read"
    RUNS_CANCEL = "runs.cancel"
    AUDIO_READ = "audio.read"
    OPS_READ = "ops.read"
    CONSOLE_READ = "console.read"
    ACCOUNT_READ = "account.read"
    ACCOUNT_MANAGE = "account.manage"
    API_KEYS_READ = "api_keys.read"
    API_KEYS_MANAGE = "api_keys.manage"
    USERS_READ = "users.read"
    USERS_MANAGE = "users.manage"
    GROUPS_READ = "groups.read"
    GROUPS_MANAGE = "groups.manage"
    INVITATIONS_MANAGE = "invitations.manage"
    ROLES_READ = "roles.read"
    ROLES_MANAGE = "roles.manage"
    PERMISSIONS_READ = "permissions.read"
    PERMISSIONS_MANAGE = "permissions.manage"
    POLICIES_READ = "policies.read"
    POLICIES_MANAGE = "policies.manage"
    POLICIES_SIMULATE = "policies.simulate"
    AUTHZ_EXPLAIN = "authz.explain"
    IDENTITY_PROVIDERS_READ = "identity_providers.read"
    IDENTITY_PROVIDERS_MANAGE = "identity_providers.manage"
    SCIM_TOKENS_MANAGE = "scim_tokens.manage"
    SCIM_PROVISION = "scim.provision"
    PLANS_READ = "plans.read"
    PLANS_ASSIGN = "plans.assign"
    PLANS_REQUEST = "plans.request"
    QUOTAS_READ = "quotas.read"
    QUOTAS_MANAGE = "quotas.manage"
    USAGE_READ = "usage.read"
    ROLLOUTS_READ = "rollouts.read"
    ROLLOUTS_MANAGE = "rollouts.manage"
    OPS_ACT = "ops.act"
    MAINTENANCE_READ = "maintenance.read"
    MAINTENANCE_RUN = "maintenance.run"
    ACTIVITY_READ = "activity.read"
    DASHBOARD_READ = "dashboard.read"
    BILLING_WEBHOOK_TEST = "billing_webhook.test"
    COSTS_READ = "costs.read"
    COSTS_MANAGE = "costs.manage"
    SLA_READ = "sla.read"
    SLA_MANAGE = "sla.manage"
    AUTOSCALING_READ = "autoscaling.read"
    AUTOSCALING_MANAGE = "autoscaling.manage"


_READER = (
    Action.CORPORA_READ, Action.CORPORA_SEARCH, Action.DOCUMENTS_READ, Action.RUNS_CREATE, Action.RUNS_READ, Action.RUNS_CANCEL,
    Action.AUDIO_READ, Action.CONSOLE_READ, Action.ACCOUNT_READ, Action.ACCOUNT_MANAGE,
)  # fmt: skip
_EDITOR = (
    Action.CORPORA_WRITE, Action.CORPORA_CREATE, Action.DOCUMENTS_CREATE, Action.DOCUMENTS_DELETE, Action.DOCUMENTS_REINDEX,
)  # fmt: skip
# What neither may is for admins.
LEAST_ROLE: Mapping[Action, Role] = {
    action: Role.READER if action in _READER else Role.EDITOR if action in _EDITOR else Role.ADMIN for action in Action
}
ACTIONS_OF: Mapping[Role, frozenset[Action]] = {
    # A provisioning client is no person: no role has its action.
    role: frozenset(action for action in Action if LEAST_ROLE[action].rank <= role.rank) - {Action.SCIM_PROVISION}
    for role in Role
}


def least_role(actions: Collection[Action]) -> Role:
    """The least built-in role that has all of `actions`."""
    return next((role for role in Role if ACTIONS_OF[role] >= set(actions)), Role.ADMIN)


def actions_named(names: Iterable[str]) -> frozenset[Action]:
    """What a custom role's list of names stands for. One that only a later release knows is none here."""
    return frozenset(Action(name) for name in names if name in _NAMES) - {Action.SCIM_PROVISION}


_NAMES = frozenset(action.value for action in Action)


class Resource(StrEnum):
    """Kinds of resource; the owning domain registers how one is loaded."""

    CORPUS = "corpus"
    DOCUMENT = "document"
    RUN = "run"
    AUDIO = "audio"
    API_KEY = "api_key"
    USER = "user"
    GROUP = "group"
    INVITATION = "invitation"
    ROLE = "role"
    POLICY = "policy"
    PROVIDER = "provider"
    SCIM_TOKEN = "scim_token"
    PLAN = "plan"
    OPS = "ops"
    ACCOUNT = "account"
    AUTH_SESSION = "auth_session"
    CONSOLE = "console"
    PERMISSION = "permission"
    ROLE_CHANGE = "role_change"
    QUOTA = "quota"
    USAGE = "usage"
    ROLLOUT = "rollout"
    MAINTENANCE = "maintenance"
    ACTIVITY = "activity"
    BILLING_WEBHOOK = "billing_webhook"
    COST = "cost"
    PRICE = "price"
    CHARGEBACK_REPORT = "chargeback_report"
    SLA_POLICY = "sla_policy"
    SLA_ASSIGNMENT = "sla_assignment"
    SLA_INCIDENT = "sla_incident"
    AUTOSCALING_PROFILE = "autoscaling_profile"

    @property
    def id_name(self) -> str:
        """What paths and bodies call the id of one."""
        return _ID_NAMES.get(self, f"{self.value}_id")


_ID_NAMES = {
    Resource.API_KEY: "key_id",
    Resource.SCIM_TOKEN: "token_id",
    Resource.CHARGEBACK_REPORT: "report_id",
    Resource.SLA_POLICY: "policy_id",
    Resource.SLA_INCIDENT: "incident_id",
    Resource.AUTOSCALING_PROFILE: "profile_id",
}


class Permission(StrEnum):
    """What can be granted on a document. An owner may do everything."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    REINDEX = "reindex"
    OWNER = "owner"


# What a policy calls an action: the kind of resource and its verbs. Making a document is a write as well, so that a policy
# against writing cannot be passed by by uploading anew.
POLICY_TERMS: Mapping[Action, tuple[Resource, tuple[str, ...]]] = {
    Action.CORPORA_READ: (Resource.CORPUS, ("read",)),
    Action.CORPORA_WRITE: (Resource.CORPUS, ("write",)),
    Action.CORPORA_CREATE: (Resource.CORPUS, ("create",)),
    Action.CORPORA_DELETE: (Resource.CORPUS, ("delete",)),
    Action.CORPORA_SEARCH: (Resource.CORPUS, ("search",)),
    Action.DOCUMENTS_READ: (Resource.DOCUMENT, ("read",)),
    Action.DOCUMENTS_CREATE: (Resource.DOCUMENT, ("create", "write")),
    Action.DOCUMENTS_DELETE: (Resource.DOCUMENT, ("delete",)),
    Action.DOCUMENTS_REINDEX: (Resource.DOCUMENT, ("reindex",)),
    Action.RUNS_CREATE: (Resource.RUN, ("create",)),
    Action.RUNS_READ: (Resource.RUN, ("read",)),
    Action.RUNS_CANCEL: (Resource.RUN, ("cancel",)),
    Action.AUDIO_READ: (Resource.AUDIO, ("read",)),
    Action.OPS_READ: (Resource.OPS, ("read",)),
    Action.CONSOLE_READ: (Resource.CONSOLE, ("read",)),
    Action.ACCOUNT_READ: (Resource.ACCOUNT, ("read",)),
    Action.ACCOUNT_MANAGE: (Resource.ACCOUNT, ("manage",)),
    Action.API_KEYS_READ: (Resource.API_KEY, ("read",)),
    Action.API_KEYS_MANAGE: (Resource.API_KEY, ("manage",)),
    Action.USERS_READ: (Resource.USER, ("read",)),
    Action.USERS_MANAGE: (Resource.USER, ("manage",)),
    Action.GROUPS_READ: (Resource.GROUP, ("read",)),
    Action.GROUPS_MANAGE: (Resource.GROUP, ("manage",)),
    Action.INVITATIONS_MANAGE: (Resource.INVITATION, ("manage",)),
    Action.ROLES_READ: (Resource.ROLE, ("read",)),
    Action.ROLES_MANAGE: (Resource.ROLE, ("manage",)),
    Action.PERMISSIONS_READ: (Resource.PERMISSION, ("read",)),
    Action.PERMISSIONS_MANAGE: (Resource.PERMISSION, ("manage",)),
    Action.POLICIES_READ: (Resource.POLICY, ("read",)),
    Action.POLICIES_MANAGE: (Resource.POLICY, ("manage",)),
    Action.POLICIES_SIMULATE: (Resource.POLICY, ("simulate",)),
    Action.AUTHZ_EXPLAIN: (Resource.PERMISSION, ("explain",)),
    Action.IDENTITY_PROVIDERS_READ: (Resource.PROVIDER, ("read",)),
    Action.IDENTITY_PROVIDERS_MANAGE: (Resource.PROVIDER, ("manage",)),
    Action.SCIM_TOKENS_MANAGE: (Resource.SCIM_TOKEN, ("manage",)),
    Action.SCIM_PROVISION: (Resource.SCIM_TOKEN, ("provision",)),
    Action.PLANS_READ: (Resource.PLAN, ("read",)),
    Action.PLANS_ASSIGN: (Resource.PLAN, ("assign",)),
    Action.PLANS_REQUEST: (Resource.PLAN, ("request",)),
    Action.QUOTAS_READ: (Resource.QUOTA, ("read",)),
    Action.QUOTAS_MANAGE: (Resource.QUOTA, ("manage",)),
    Action.USAGE_READ: (Resource.USAGE, ("read",)),
    Action.ROLLOUTS_READ: (Resource.ROLLOUT, ("read",)),
    Action.ROLLOUTS_MANAGE: (Resource.ROLLOUT, ("manage",)),
    Action.OPS_ACT: (Resource.OPS, ("act",)),
    Action.MAINTENANCE_READ: (Resource.MAINTENANCE, ("read",)),
    Action.MAINTENANCE_RUN: (Resource.MAINTENANCE, ("run",)),
    Action.ACTIVITY_READ: (Resource.ACTIVITY, ("read",)),
    Action.DASHBOARD_READ: (Resource.CONSOLE, ("summarise",)),
    Action.BILLING_WEBHOOK_TEST: (Resource.BILLING_WEBHOOK, ("test",)),
    Action.COSTS_READ: (Resource.COST, ("read",)),
    Action.COSTS_MANAGE: (Resource.COST, ("manage",)),
    Action.SLA_READ: (Resource.SLA_POLICY, ("read",)),
    Action.SLA_MANAGE: (Resource.SLA_POLICY, ("manage",)),
    Action.AUTOSCALING_READ: (Resource.AUTOSCALING_PROFILE, ("read",)),
    Action.AUTOSCALING_MANAGE: (Resource.AUTOSCALING_PROFILE, ("manage",)),
}
