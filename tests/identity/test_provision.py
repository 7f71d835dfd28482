"""What the command line does to tenants, people and keys: the way back in, on record like everything else."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from nexusrag.identity.api_keys import provision as keys
from nexusrag.identity.tenants import provision as tenants
from nexusrag.identity.users import provision as users
from nexusrag.kernel import clock
from nexusrag.kernel.ids import new_id
from tests.support.api import Api, error_of
from tests.support.behind import audited, count, rows
from tests.support.installation import http


@pytest.fixture
async def connection(api: Api) -> AsyncIterator[Any]:
    held = await api.servers.admin()
    yield held
    await held.close()


@pytest.fixture
def pepper(api: Api) -> str:
    return api.servers.settings.auth.auth_key_pepper.get_secret_value()


async def test_a_tenant_is_made_once_and_listed(api: Api, connection: Any) -> None:
    tenant = new_id("t").replace("_", "-")
    assert await tenants.create(connection, tenant, "A name")
    assert not await tenants.create(connection, tenant, "Another name")
    (shown,) = [one for one in await tenants.list_tenants(connection) if one["id"] == tenant]
    assert (shown["name"], shown["status"]) == ("A name", "active")
    await tenants.set_status(connection, tenant, active=False)
    assert [len(await audited(api, tenant, f"tenant.{event}")) for event in ("created", "suspended", "activated")] == [1, 1, 0]
    for wrong in ("Not A Tenant", "", "t1;"):
        with pytest.raises(ValueError, match="not a tenant id"):
            await tenants.create(connection, wrong, "x")
    with pytest.raises(ValueError, match="no tenant"):
        await tenants.set_status(connection, "nobody", active=False)


async def test_the_command_line_disables_even_the_last_admin_and_makes_another(api: Api, connection: Any, pepper: str) -> None:
    admin = await api.person()
    reader = await api.person("reader", admin.tenant)
    assert await users.set_active(connection, admin.tenant, admin.user_id, active=False)
    assert error_of(await admin.get("/v1/corpora")) == ("AUTH_UNAUTHORIZED", 401)
    assert await users.set_role(connection, admin.tenant, reader.user_id, "admin")
    made = await keys.create_key(connection, pepper=pepper, tenant=admin.tenant, role="admin", name="way back")
    async with http(api.base_url, made["api_key"]) as client:
        listed = (await client.get("/v1/admin/identity/users")).json()["data"]["items"]
        assert {user["id"]: (user["role"], user["status"], user["service"]) for user in listed} == {
            admin.user_id: ("admin", "disabled", True),
            reader.user_id: ("admin", "active", True),
            made["user_id"]: ("admin", "active", True),
        }
    assert {user["id"] for user in await users.list_users(connection, admin.tenant)} == {user["id"] for user in listed}
    (event,) = await audited(api, admin.tenant, "identity.user.disabled")
    assert (event["actor_type"], event["resource_id"]) == ("cli", admin.user_id)


async def test_a_role_of_the_tenants_own_can_be_given(api: Api, connection: Any) -> None:
    admin = await api.person()
    await admin.post("/v1/admin/authz/roles", json={"id": "auditors", "name": "x", "actions": ["ops.read"]})
    assert await users.set_role(connection, admin.tenant, admin.user_id, "auditors")
    (shown,) = await users.list_users(connection, admin.tenant)
    assert (shown["role"], shown["custom_role"]) == ("admin", "auditors")
    with pytest.raises(ValueError, match="neither"):
        await users.set_role(connection, admin.tenant, admin.user_id, "emperor")


async def test_who_is_not_there_is_told(api: Api, connection: Any, pepper: str) -> None:
    admin, stranger = await api.person(), await api.person()
    assert not await users.set_role(connection, admin.tenant, stranger.user_id, "reader")
    assert not await users.set_active(connection, admin.tenant, stranger.user_id, active=False)
    assert await keys.rotate_key(connection, pepper=pepper, tenant=admin.tenant, key_id=stranger.key_id, grace=None) is None
    with pytest.raises(ValueError, match="no tenant"):
        await users.list_users(connection, "nobody")


@pytest.mark.parametrize(("grace", "works_until"), [(None, None), (timedelta(), timedelta()), (timedelta(hours=5), timedelta(hours=5))])
async def test_a_key_is_rotated(api: Api, connection: Any, pepper: str, grace: timedelta | None, works_until: timedelta | None) -> None:
    person = await api.person("editor")
    made = await keys.rotate_key(connection, pepper=pepper, tenant=person.tenant, key_id=person.key_id, grace=grace)
    assert made is not None
    assert (made["user_id"], made["role"], made["replaces"]) == (person.user_id, "editor", person.key_id)
    async with http(api.base_url, made["api_key"]) as client:
        assert (await client.get("/v1/corpora")).status_code == 200
    assert (await person.get("/v1/corpora")).status_code == (401 if works_until == timedelta() else 200)
    if works_until:
        assert works_until - timedelta(minutes=1) < made["old_key_expires_at"] - clock.now() <= works_until
    else:
        assert (made["old_key_expires_at"] is None) is (works_until is None)
    with pytest.raises(ValueError, match=r"replaced by|does not work"):
        await keys.rotate_key(connection, pepper=pepper, tenant=person.tenant, key_id=person.key_id, grace=grace)
    (event,) = await audited(api, person.tenant, "auth.api_key.rotated")
    assert made["api_key"] not in str(event)


async def test_inactive_keys_are_listed_by_the_days_of_the_setting(api: Api, connection: Any) -> None:
    person = await api.person()
    await rows(api, "update api_keys set last_used_at = now() - interval '40 days' where id = $1", person.key_id)
    assert [key["key_id"] for key in await keys.list_keys(connection, person.tenant, inactive_days=40)] == [person.key_id]
    assert await keys.list_keys(connection, person.tenant, inactive_days=41) == []
    listed = await keys.list_keys(connection, person.tenant)
    assert "hash" not in listed[0]
    await keys.revoke_key(connection, person.tenant, person.key_id)
    assert await keys.list_keys(connection, person.tenant, inactive_days=40) == []
    assert await count(api, "select count(*) from api_keys where tenant_id = $1", person.tenant) == 1
