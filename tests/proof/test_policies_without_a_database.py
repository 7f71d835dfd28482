"""Policies and the naive reference decide alike over generated tenants, without a database: who is meant, which policy decides, and why."""

from pathlib import Path
from random import Random

import pytest

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.caller import describe
from nexusrag.access.policies.decide import PolicySet, read_policy
from nexusrag.access.policies.language import Limits
from nexusrag.identity.credentials.persons import principal_of
from nexusrag.kernel.principal import Credential, Principal
from tests.proof import reference
from tests.proof.worlds import BUILT_IN, Tenant, request_of, tenant

VERBS = ("read", "write", "delete", "reindex")


def principal(made: Tenant, caller: tuple[str, str]) -> Principal:
    """As the row of a credential gives it."""
    kind, one = caller
    key = made["keys"][one] if kind == "api_key" else None
    user_id = key["user"] if key else one
    user = made["users"][user_id]
    groups = {name: group for name, group in made["groups"].items() if user_id in group["members"]}
    customs = {name: actions for name, actions in made["roles"].items() if name not in BUILT_IN}
    row = {
        "tenant_id": made["id"], "user_id": user_id, "credential_id": one if key else "", "is_home": False, "email": user["email"],
        "user_role": user["role"], "user_custom_role": user["custom_role"], "key_role": key and key["role"],
        "key_custom_role": key and key["custom_role"], "custom_roles": customs,
        "groups": {name: group["name"] for name, group in groups.items()} or None,
        "group_roles": [group["role"] for group in groups.values() if group["role"]] or None, "plan_id": None, "overrides": None,
    }  # fmt: skip
    return principal_of(row, Credential.API_KEY if key else Credential.SESSION, "free")


@pytest.mark.parametrize("seed", range(60))
def test_each_policy_set_decides_as_the_reference_does(seed: int) -> None:
    random = Random(seed)
    made, request = tenant(random), request_of(random)
    policies = PolicySet(
        read_policy(one["id"], one["effect"], one["resource_type"], one["action"], one["priority"], one["condition"], Limits())
        for one in made["policies"] if one["enabled"]
    )  # fmt: skip
    for caller in [*(("user", name) for name in made["users"]), *(("api_key", name) for name in made["keys"])]:
        who = reference.person(made, caller)
        if who is None:
            continue
        ours = principal(made, caller)
        seen = describe(ours)
        assert seen | {"groups": sorted(who["seen"]["groups"])} == who["seen"] | {"groups": sorted(who["seen"]["groups"])}
        assert (ours.actions, ours.is_admin) == (who["actions"], who["admin"])
        assert {("role", role) for role in ours.role_names} == {name for name in who["names"] if name[0] == "role"}
        attributes = Attributes(seen, request)
        for document in made["documents"].values():
            for verb in VERBS:
                about = attributes.about(document)
                decision, told = policies.decide("document", verb, about), policies.explain("document", verb, about)
                denied, allowed = (
                    reference.deciding(made, effect, "document", verb, who, document, request) for effect in ("deny", "allow")
                )
                assert (decision.denied_by, told.denied_by) == (denied, denied)
                assert decision.allowed_by == told.allowed_by == (allowed if denied is None else None)


def test_the_reference_is_short_and_knows_nothing_of_the_product() -> None:
    """Else it would be wrong where the product is."""
    text = Path(reference.__file__).read_text()
    assert len(text.splitlines()) <= 150
    assert "nexusrag" not in text
