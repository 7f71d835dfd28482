"""What a caller may do, worked out from the row of their credential."""

from typing import Any

import pytest

from nexusrag.identity.credentials.persons import held_actions, plan_of, principal_of
from nexusrag.kernel.actions import ACTIONS_OF, Action, Role
from nexusrag.kernel.features import FEATURES_OF, Feature, PlanId
from nexusrag.kernel.principal import Credential

AUDITOR = frozenset({Action.DOCUMENTS_READ, Action.PERMISSIONS_READ})


def row(**changes: Any) -> dict[str, Any]:
    """An editor with a key of every right."""
    return {
        "tenant_id": "t1", "user_id": "usr_1", "credential_id": "key_1", "is_home": False, "email": "a@b.example", "user_role": "editor",
        "user_custom_role": None, "key_role": "admin", "key_custom_role": None, "custom_roles": {"auditor": sorted(AUDITOR), "none": []},
        "groups": None, "group_roles": None, "plan_id": None, "overrides": None,
    } | changes  # fmt: skip


def test_a_caller_is_who_the_row_says() -> None:
    made = principal_of(row(groups={"grp_1": "Staff"}, is_home=True), Credential.API_KEY, "free")
    assert (made.tenant_id, made.subject_id, made.credential_id, made.is_home) == ("t1", "usr_1", "key_1", True)
    assert (made.credential, made.email, made.groups, made.custom_role) == (Credential.API_KEY, "a@b.example", {"grp_1": "Staff"}, None)
    assert principal_of(row(), Credential.SESSION, "free").groups == {}


@pytest.mark.parametrize(
    ("changes", "actions", "role"),
    [
        ({}, ACTIONS_OF[Role.EDITOR], Role.EDITOR),
        ({"user_role": "admin", "key_role": "reader"}, ACTIONS_OF[Role.READER], Role.READER),
        ({"user_role": "reader", "key_role": "admin"}, ACTIONS_OF[Role.READER], Role.READER),
        ({"group_roles": ["admin"]}, ACTIONS_OF[Role.ADMIN], Role.ADMIN),
        ({"user_role": "reader", "group_roles": ["reader", "editor"]}, ACTIONS_OF[Role.EDITOR], Role.EDITOR),
        ({"user_custom_role": "auditor"}, AUDITOR, Role.ADMIN),
        ({"user_custom_role": "auditor", "group_roles": ["reader"]}, AUDITOR | ACTIONS_OF[Role.READER], Role.ADMIN),
        ({"key_custom_role": "auditor"}, AUDITOR & ACTIONS_OF[Role.EDITOR], Role.READER),
        ({"user_role": "admin", "key_custom_role": "auditor"}, AUDITOR, Role.ADMIN),
        ({"user_custom_role": "gone"}, frozenset(), Role.READER),
        ({"user_custom_role": "none", "custom_roles": None}, frozenset(), Role.READER),
        ({"user_custom_role": "none", "group_roles": ["editor"]}, ACTIONS_OF[Role.EDITOR], Role.EDITOR),
        ({"user_custom_role": "new", "custom_roles": {"new": ["documents.read", "of.later"]}}, {Action.DOCUMENTS_READ}, Role.READER),
        ({"user_custom_role": "x", "custom_roles": {"x": ["scim.provision", "documents.read"]}}, {Action.DOCUMENTS_READ}, Role.READER),
    ],
)  # fmt: skip
def test_roles_add_up_and_a_key_narrows_them(changes: dict[str, Any], actions: frozenset[Action], role: Role) -> None:
    made = principal_of(row(**changes), Credential.API_KEY, "free")
    assert (made.actions, made.role, made.custom_role) == (actions, role, changes.get("user_custom_role"))


def test_a_login_is_not_narrowed_by_any_key() -> None:
    made = principal_of(row(user_role="admin", key_role="reader", key_custom_role="none"), Credential.SESSION, "free")
    assert made.actions == ACTIONS_OF[Role.ADMIN] == held_actions(row(user_role="admin"))


@pytest.mark.parametrize(
    ("changes", "plan"),
    [
        ({}, PlanId.PRO),
        ({"is_home": True}, PlanId.ENTERPRISE),
        ({"plan_id": "free"}, PlanId.FREE),
        ({"plan_id": "free", "is_home": True}, PlanId.FREE),
    ],
)
def test_the_plan_is_what_was_assigned_or_the_default(changes: dict[str, Any], plan: PlanId) -> None:
    assert plan_of(row(**changes), "pro") == (plan, FEATURES_OF[plan])
    made = principal_of(row(**changes), Credential.API_KEY, "pro")
    assert (made.plan, made.features) == (plan, FEATURES_OF[plan])


def test_a_feature_may_be_switched_for_one_tenant_alone() -> None:
    switched = {Feature.TTS.value: True, Feature.LOCAL_PGVECTOR.value: False}
    assert plan_of(row(overrides=switched), "free")[1] == (FEATURES_OF[PlanId.FREE] | {Feature.TTS}) - {Feature.LOCAL_PGVECTOR}
