"""What a caller may do: the union of a person's own role and those of their groups, narrowed by the credential they use."""

from collections.abc import Mapping
from typing import Any

from nexusrag.kernel.actions import ACTIONS_OF, Action, Role, actions_named, least_role
from nexusrag.kernel.features import PlanId, entitled, plan_in_force
from nexusrag.kernel.principal import Credential, Principal


def principal_of(row: Mapping[str, Any], kind: Credential, default_plan: str) -> Principal:
    """The caller of a row of `auth_key` or `auth_session`, whose credential was found good."""
    actions = held_actions(row)
    if kind is Credential.API_KEY:
        # A key never carries more than the person behind it has.
        actions &= _actions(row["key_role"], row["key_custom_role"], row["custom_roles"])
    role = least_role(actions)
    plan, features = plan_of(row, default_plan)
    return Principal(
        row["tenant_id"],
        row["user_id"],
        role,
        row["credential_id"],
        row["is_home"],
        credential=kind,
        custom_role=row["user_custom_role"],
        actions=actions,
        groups=row["groups"] or {},
        email=row["email"],
        plan=plan,
        features=features,
    )


def held_actions(row: Mapping[str, Any]) -> frozenset[Action]:
    """What a person may do by their own role and those of their groups."""
    actions = _actions(row["user_role"], row["user_custom_role"], row["custom_roles"])
    for role in row["group_roles"] or ():
        actions |= ACTIONS_OF[Role(role)]
    return actions


def plan_of(row: Mapping[str, Any], default_plan: str) -> tuple[PlanId, frozenset[Any]]:
    """Plan and features of a row's tenant: what was assigned, else enterprise for the home tenant and the default for others."""
    plan = plan_in_force(row["plan_id"], row["is_home"], default_plan)
    return plan, entitled(plan, row["overrides"] or {})


def _actions(role: str, custom: str | None, custom_roles: Mapping[str, list[str]] | None) -> frozenset[Action]:
    if custom is None:
        return ACTIONS_OF[Role(role)]
    # A custom role that is gone has no actions at all.
    return actions_named((custom_roles or {}).get(custom, ()))
