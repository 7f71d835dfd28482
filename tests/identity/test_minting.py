"""A key never mints more than its maker has: over every mixture of roles, keys and actions."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexusrag.access.roles.facade import Assigned, demand_within
from nexusrag.identity.credentials.facade import principal_of
from nexusrag.kernel.actions import ACTIONS_OF, Action, Role, actions_named, least_role
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.principal import Credential
from tests.support.api import Api, Person, error_of

_ACTIONS = sorted(ACTIONS_OF[Role.ADMIN])
_CUSTOM = st.lists(st.sampled_from(_ACTIONS), unique=True)
_ROLE = st.one_of(st.sampled_from([(role.value, None) for role in Role]), st.just(("reader", "one")), st.just(("admin", "two")))
_GROUPS = st.lists(st.sampled_from([role.value for role in Role]), max_size=2)


def row(user: tuple[str, str | None], groups: list[str], key: tuple[str, str | None], custom: Mapping[str, list[str]]) -> dict[str, Any]:
    """What the database says of a key and its user."""
    return {
        "tenant_id": "t1", "user_id": "usr_1", "credential_id": "key_1", "is_home": False, "email": None, "groups": None, "plan_id": None,
        "overrides": None, "user_role": user[0], "user_custom_role": user[1], "group_roles": groups, "key_role": key[0],
        "key_custom_role": key[1], "custom_roles": custom, "expires_at": None,
    }  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(_ROLE, _GROUPS, _ROLE, _ROLE, _CUSTOM, _CUSTOM)
def test_what_is_minted_may_do_no_more_than_its_maker(
    user: tuple[str, str | None],
    groups: list[str],
    key: tuple[str, str | None],
    wanted: tuple[str, str | None],
    one: list[str],
    two: list[str],
) -> None:
    custom = {"one": one, "two": two}
    maker = principal_of(row(user, groups, key, custom), Credential.API_KEY, "free")
    asked = Assigned(Role(wanted[0]), wanted[1], ACTIONS_OF[Role(wanted[0])] if wanted[1] is None else actions_named(custom[wanted[1]]))
    try:
        demand_within(maker, asked.actions)
    except ApiError:
        assert asked.actions - maker.actions
        return
    # For the maker's own user, and for a service that may do everything.
    for held in (user, ("admin", None)):
        minted = principal_of(row(held, groups, wanted, custom), Credential.API_KEY, "free")
        assert minted.actions <= asked.actions <= maker.actions


@given(st.lists(st.sampled_from(_ACTIONS), unique=True))
def test_the_role_that_stands_for_actions_has_them_all_and_no_lesser_one_does(actions: list[Action]) -> None:
    role = least_role(actions)
    assert set(actions) <= ACTIONS_OF[role]
    assert all(not set(actions) <= ACTIONS_OF[lesser] for lesser in Role if lesser.rank < role.rank)


async def may(person: Person, key: str) -> set[str]:
    """Which of a few telling requests the key may make."""
    headers = {"Authorization": f"Bearer {key}"}
    asked = {
        "corpora.read": ("GET", "/v1/corpora"), "corpora.create": ("POST", "/v1/corpora"), "ops.read": ("GET", "/v1/ops/ingestion"),
        "api_keys.read": ("GET", "/v1/admin/api-keys"), "users.read": ("GET", "/v1/admin/identity/users"),
        "roles.read": ("GET", "/v1/admin/authz/roles"),
    }  # fmt: skip
    answers = {
        action: await person.client.request(method, path, json={"name": "x"} if method == "POST" else None, headers=headers)
        for action, (method, path) in asked.items()
    }
    return {action for action, answer in answers.items() if answer.status_code < 400}


_SOME = st.lists(st.sampled_from(["corpora.read", "corpora.create", "ops.read", "users.read", "roles.read"]), unique=True, max_size=4)


@pytest.mark.slow
async def test_through_the_api_as_well(api: Api) -> None:
    admin = await api.person()
    maker = await api.person("admin", admin.tenant)
    worlds: list[tuple[list[str], list[str]]] = []

    @settings(max_examples=6, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(_SOME, _SOME)
    def collect(has: list[str], asked: list[str]) -> None:
        worlds.append((has, asked))

    collect()
    for number, (has, asked) in enumerate(worlds):
        mine, other = f"maker-{number}", f"asked-{number}"
        held = ["api_keys.read", "api_keys.manage", *has]
        for role_id, actions in ((mine, held), (other, ["api_keys.read", *asked])):
            body = {"id": role_id, "name": role_id, "actions": actions}
            assert (await admin.post("/v1/admin/authz/roles", json=body)).status_code == 201
        made = (await admin.post("/v1/self-serve/api-keys", json={"custom_role": mine, "user_id": maker.user_id})).json()["data"]
        headers = {"Authorization": f"Bearer {made['api_key']}"}
        for choice in ({"custom_role": other}, {"role": "reader"}, {"role": "admin"}):
            answer = await admin.client.post("/v1/self-serve/api-keys", json=choice, headers=headers)
            if choice == {"custom_role": other} and set(asked) <= set(has):
                minted = answer.json()["data"]
                assert await may(admin, minted["api_key"]) <= await may(admin, made["api_key"])
                await admin.post(f"/v1/self-serve/api-keys/{minted['key_id']}/revoke")
            else:
                assert error_of(answer) == ("AUTH_FORBIDDEN", 403), (has, asked, choice)
        await admin.post(f"/v1/self-serve/api-keys/{made['key_id']}/revoke")


@pytest.mark.parametrize(
    ("end", "again"),
    [
        ({"active": False}, {"active": True}), ({"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at": None}),
        ({"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at": "2999-01-01T00:00:00Z"}),
    ],
)  # fmt: skip
async def test_nobody_brings_back_a_key_or_a_person_that_may_do_more_than_they(
    api: Api, end: dict[str, Any], again: dict[str, Any]
) -> None:
    """Whoever manages keys or people may well hold the secret of what had come to its end."""
    admin = await api.person()
    keeper, other = await api.person("admin", admin.tenant), await api.person("admin", admin.tenant)
    body = {"id": "keepers", "name": "x", "actions": ["api_keys.manage", "users.manage", "corpora.read"]}
    assert (await admin.post("/v1/admin/authz/roles", json=body)).status_code == 201
    user, key = "/v1/admin/identity/users/{}", "/v1/admin/api-keys/{}"
    assert (await admin.patch(user.format(keeper.user_id) + "/role", json={"custom_role": "keepers"})).status_code == 200
    assert (await keeper.patch(key.format(other.key_id), json=end)).status_code == 200
    assert (await keeper.post(user.format(other.user_id) + "/disable")).status_code == 200
    for answer in (
        await keeper.patch(key.format(other.key_id), json=again), await keeper.post(user.format(other.user_id) + "/enable"),
    ):  # fmt: skip
        assert error_of(answer) == ("AUTH_FORBIDDEN", 403)
    assert (await keeper.patch(key.format(other.key_id), json={**again, "custom_role": "keepers"})).status_code == 200, "lowered first"
    assert (await admin.post(user.format(other.user_id) + "/enable")).status_code == 200
    assert await may(admin, other.key) == {"corpora.read"}


async def test_an_editor_mints_nothing(api: Api) -> None:
    for role in ("reader", "editor"):
        person = await api.person(role)
        assert error_of(await person.post("/v1/self-serve/api-keys", json={"role": "reader"})) == ("AUTH_FORBIDDEN", 403)


async def test_a_key_falls_with_the_person_behind_it(api: Api) -> None:
    admin = await api.person()
    maker = await api.person("admin", admin.tenant)
    made = (await maker.post("/v1/self-serve/api-keys", json={"role": "admin"})).json()["data"]
    await admin.patch(f"/v1/admin/identity/users/{maker.user_id}/role", json={"role": "reader"})
    assert await may(admin, made["api_key"]) == {"corpora.read"}
