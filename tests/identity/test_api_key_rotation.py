"""Rotation: the new key at once, the old one until its grace is over, and nobody's identity handed to somebody else."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from nexusrag.identity.api_keys.provision import rotate_key
from nexusrag.kernel import clock
from nexusrag.kernel.ids import new_id
from tests.identity.test_api_keys import ALL, MINE, OK, make, status
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, grant, rows
from tests.support.soon import soon

CONFLICT, FORBIDDEN = ("CONFLICT", 409), ("AUTH_FORBIDDEN", 403)
EXPIRED = ("AUTH_EXPIRED_KEY", 401)


async def rotate(person: Person, key_id: str, **body: Any) -> dict[str, Any]:
    answer = await person.post(f"{ALL}/{key_id}/rotate", json=body)
    assert answer.status_code == 200, answer.text
    rotated: dict[str, Any] = answer.json()["data"]
    return rotated


async def test_both_keys_work_until_the_grace_is_over(api: Api) -> None:
    admin = await api.person()
    old = await make(admin, name="bot", role="editor")
    began = clock.now()
    new = await rotate(admin, old["key_id"])
    assert (new["name"], new["role"], new["user_id"], new["replaces"]) == ("bot", "editor", admin.user_id, old["key_id"])
    ends = datetime.fromisoformat(new["old_key_expires_at"])
    assert timedelta(hours=24) <= ends - began < timedelta(hours=24, minutes=1)
    assert [await status(api, key["api_key"]) for key in (old, new)] == [OK, OK]
    await rows(api, "update api_keys set expires_at = now() where id = $1", old["key_id"])
    await rows(api, "select pg_notify('nexusrag_changes', $1)", f"credential {old['key_id']}")
    await soon(lambda: status(api, old["api_key"]), EXPIRED)
    assert await status(api, new["api_key"]) == OK
    (row,) = await rows(api, "select replaced_by from api_keys where id = $1", old["key_id"])
    assert row["replaced_by"] == new["key_id"]
    (event,) = await audited(api, admin.tenant, "auth.api_key.rotated")
    assert event["resource_id"] == old["key_id"]
    assert new["api_key"] not in str(event)


async def test_without_grace_the_old_key_ends_within_a_second(api: Api) -> None:
    admin = await api.person()
    assert await status(api, admin.key) == OK
    new = await rotate(admin, admin.key_id, grace_hours=0)
    await soon(lambda: status(api, admin.key), EXPIRED)
    assert await status(api, new["api_key"]) == OK


async def test_a_key_in_use_loses_no_request_to_its_rotation(api: Api) -> None:
    admin = await api.person()
    done = asyncio.Event()

    async def use() -> set[int]:
        seen = set()
        while not done.is_set():
            seen.add((await admin.get("/v1/corpora")).status_code)
        return seen

    using = asyncio.create_task(use())
    other = await api.person("admin", admin.tenant)
    new = await rotate(other, admin.key_id, grace_hours=1)
    assert await status(api, new["api_key"]) == OK
    done.set()
    assert await using == {200}


async def test_the_new_key_lives_as_long_as_the_old_one_did(api: Api) -> None:
    admin = await api.person()
    old = await make(admin, expires_in_days=10)
    earlier = "created_at = created_at - interval '9 days', expires_at = expires_at - interval '9 days'"
    await rows(api, f"update api_keys set {earlier} where id = $1", old["key_id"])
    new = await rotate(admin, old["key_id"], grace_hours=720)
    left = datetime.fromisoformat(new["expires_at"]) - clock.now()
    assert timedelta(days=9, hours=23) < left <= timedelta(days=10)
    grace = datetime.fromisoformat(new["old_key_expires_at"]) - clock.now()
    assert grace <= timedelta(days=1), "a rotation lengthens no life"
    shorter = await rotate(admin, new["key_id"], expires_in_days=2)
    assert datetime.fromisoformat(shorter["expires_at"]) - clock.now() <= timedelta(days=2)


@pytest.mark.parametrize(
    "body", [{"grace_hours": -1}, {"grace_hours": 721}, {"grace_hours": "x"}, {"expires_in_days": 0}, {"role": "admin"}]
)
async def test_a_faulty_rotation_changes_nothing(api: Api, body: dict[str, Any]) -> None:
    admin = await api.person()
    assert error_of(await admin.post(f"{ALL}/{admin.key_id}/rotate", json=body)) == ("VALIDATION_ERROR", 422)
    assert await count(api, "select count(*) from api_keys where tenant_id = $1", admin.tenant) == 1


async def test_a_key_is_replaced_once_and_while_it_lives(api: Api) -> None:
    admin = await api.person()
    replaced, revoked, expired = await make(admin), await make(admin), await make(admin)
    answers = await asyncio.gather(*(admin.post(f"{ALL}/{replaced['key_id']}/rotate") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    await admin.post(f"{MINE}/{revoked['key_id']}/revoke")
    await admin.patch(f"{ALL}/{expired['key_id']}", json={"expires_at": "2020-01-01T00:00:00Z"})
    for key in (replaced, revoked, expired):
        assert error_of(await admin.post(f"{ALL}/{key['key_id']}/rotate")) == CONFLICT


async def test_what_was_granted_to_the_key_is_granted_to_the_new_one(api: Api) -> None:
    admin = await api.person()
    other = await api.person("reader", admin.tenant)
    document = await admin.text(await admin.corpus(), "For one key.")
    await grant(api, admin, document, ("api_key", other.key_id))
    new = await rotate(admin, other.key_id)
    granted = "select count(*) from document_permissions where tenant_id = $1 and principal_type = 'api_key' and principal_id = $2"
    assert await count(api, granted, admin.tenant, new["key_id"]) == 1


async def test_a_full_tenant_rotates_without_grace(api: Api) -> None:
    admin = await api.person()
    made = [await make(admin) for _ in range(20)]
    path = f"{ALL}/{made[0]['key_id']}/rotate"
    assert error_of(await admin.post(path, json={"grace_hours": 1})) == ("KEY_LIMIT_REACHED", 409)
    assert await status(api, made[0]["api_key"]) == OK
    assert (await admin.post(path, json={"grace_hours": 0})).status_code == 200


async def test_no_admin_gets_a_key_that_acts_as_another_person(api: Api) -> None:
    admin = await api.person()
    service, person = await api.person("editor", admin.tenant), await api.person("editor", admin.tenant)
    await rows(api, "update users set service = false, email = 'p@example.org' where id = $1", person.user_id)
    assert error_of(await admin.post(f"{ALL}/{person.key_id}/rotate")) == FORBIDDEN
    assert error_of(await admin.post(MINE, json={"role": "reader", "user_id": person.user_id})) == FORBIDDEN
    assert (await admin.post(f"{ALL}/{service.key_id}/rotate")).status_code == 200
    made = await make(admin, user_id=service.user_id)
    assert made["user_id"] == service.user_id
    assert error_of(await admin.post(MINE, json={"role": "reader", "user_id": new_id("usr")})) == ("NOT_FOUND", 404)
    assert (await admin.patch(f"{ALL}/{person.key_id}", json={"revoke": True})).status_code == 200, "revoking hands nothing out"


async def test_nobody_rotates_a_key_that_may_do_more_than_they(api: Api) -> None:
    admin = await api.person()
    keeper, other = await api.person("admin", admin.tenant), await api.person("admin", admin.tenant)
    body = {"id": "keepers", "name": "Keepers", "actions": ["api_keys.read", "api_keys.manage", "corpora.read"]}
    assert (await admin.post("/v1/admin/authz/roles", json=body)).status_code == 201
    answer = await admin.patch(f"/v1/admin/identity/users/{keeper.user_id}/role", json={"custom_role": "keepers"})
    assert answer.status_code == 200
    for key_id in (other.key_id, keeper.key_id):
        assert error_of(await keeper.post(f"{ALL}/{key_id}/rotate")) == FORBIDDEN
    assert error_of(await keeper.patch(f"{ALL}/{keeper.key_id}", json={"role": "reader"})) == FORBIDDEN
    assert (await keeper.patch(f"{ALL}/{keeper.key_id}", json={"custom_role": "keepers"})).status_code == 200
    assert (await keeper.post(f"{ALL}/{keeper.key_id}/rotate")).status_code == 200


async def test_only_admins_get_the_key_of_a_service(api: Api) -> None:
    """It acts as the service, and so reads what the service owns."""
    admin = await api.person()
    keeper, service = [await api.person("admin", admin.tenant) for _ in range(2)]
    body = {"id": "keepers", "name": "Keepers", "actions": ["api_keys.manage", "corpora.read"]}
    assert (await admin.post("/v1/admin/authz/roles", json=body)).status_code == 201
    answer = await admin.patch(f"/v1/admin/identity/users/{keeper.user_id}/role", json={"custom_role": "keepers"})
    assert answer.status_code == 200
    assert (await keeper.patch(f"{ALL}/{service.key_id}", json={"custom_role": "keepers"})).status_code == 200
    for answer in (
        await keeper.post(f"{ALL}/{service.key_id}/rotate"),
        await keeper.post(MINE, json={"custom_role": "keepers", "user_id": service.user_id}),
    ):
        assert error_of(answer) == FORBIDDEN


async def test_a_key_of_the_last_day_is_replaced_by_one_that_lives_a_century(api: Api) -> None:
    admin, pepper = await api.person(), api.servers.settings.auth.auth_key_pepper.get_secret_value()
    for key_id in (admin.key_id, (await make(admin))["key_id"]):
        assert (await admin.patch(f"{ALL}/{key_id}", json={"expires_at": "9999-12-31T23:59:59Z"})).status_code == 200
    new = [await rotate(admin, admin.key_id)]
    connection = await api.servers.admin()
    by_command = await rotate_key(connection, pepper=pepper, tenant=admin.tenant, key_id=key_id, grace=None)
    await connection.close()
    assert by_command is not None
    new += [key for key in (await admin.get(ALL)).json()["data"]["items"] if key["key_id"] == by_command["key_id"]]
    lives = [datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"]) for key in new]
    assert [round(life / timedelta(days=1)) for life in lives] == [36_525] * 2


async def test_keys_that_change_and_a_role_that_goes_do_not_wait_for_each_other(api: Api) -> None:
    admin = await api.person()
    body = {"id": "short", "name": "x", "actions": ["corpora.read"]}
    assert (await admin.post("/v1/admin/authz/roles", json=body)).status_code == 201
    made = await make(admin, role=None, custom_role="short")
    for _ in range(10):
        key, role = await asyncio.gather(
            admin.patch(f"{ALL}/{made['key_id']}", json={"custom_role": "short"}), admin.delete("/v1/admin/authz/roles/short")
        )
        assert (key.status_code, role.status_code) == (200, 409)
