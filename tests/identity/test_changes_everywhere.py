"""Whatever takes something from a caller acts in every process within a second, though each would cache the caller for minutes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from nexusrag.identity.api_keys import provision as keys
from nexusrag.identity.tenants import provision as tenants
from nexusrag.identity.users import provision as users
from nexusrag.infra.changes import Changes
from tests.identity.test_groups import GROUPS, group
from tests.identity.test_users import USERS
from tests.support.api import Api, Person, error_of
from tests.support.installation import Servers, http, serving
from tests.support.soon import soon

pytestmark = pytest.mark.slow
Change = Callable[[Api, Person, Person], Awaitable[Any]]
KEY, ROLES = "/v1/admin/api-keys/", "/v1/admin/authz/roles"
PATH = "/v1/ops/health"


@pytest.fixture(scope="module")
async def pair(servers: Servers) -> AsyncIterator[tuple[Api, str]]:
    """An API, and the address of another one beside it."""
    settings = servers.with_env(AUTH_CACHE_TTL_S="300")
    async with serving(settings) as (app, url), serving(settings) as (other, other_url):
        api = Api(servers, app, url)
        for one in (app, other):

            async def hears(one: Any = one) -> bool:
                return bool(one.state.resources.get(Changes).live)

            await soon(hears, True, within_s=10)
        yield api, other_url
        await api.close()


def by_request(method: str, path: str, body: dict[str, Any] | None = None) -> Change:
    async def change(api: Api, admin: Person, person: Person) -> None:
        answer = await admin.client.request(method, path.format(key=person.key_id, user=person.user_id), json=body)
        assert answer.status_code == 200, answer.text

    return change


def by_command(command: Callable[[Any, Person, str], Awaitable[Any]]) -> Change:
    async def change(api: Api, admin: Person, person: Person) -> None:
        connection = await api.servers.admin()
        try:
            assert await command(connection, person, api.servers.settings.auth.auth_key_pepper.get_secret_value()) is not False
        finally:
            await connection.close()

    return change


CHANGES: dict[str, tuple[Change, tuple[str, int]]] = {
    "revoked by self-service": (by_request("POST", "/v1/self-serve/api-keys/{key}/revoke"), ("AUTH_REVOKED_KEY", 401)),
    "revoked": (by_request("PATCH", KEY + "{key}", {"revoke": True}), ("AUTH_REVOKED_KEY", 401)),
    "switched off": (by_request("PATCH", KEY + "{key}", {"active": False}), ("AUTH_INACTIVE_KEY", 401)),
    "ended": (by_request("PATCH", KEY + "{key}", {"expires_at": "2020-01-01T00:00:00Z"}), ("AUTH_EXPIRED_KEY", 401)),
    "key lowered": (by_request("PATCH", KEY + "{key}", {"role": "editor"}), ("AUTH_FORBIDDEN", 403)),
    "rotated without grace": (by_request("POST", KEY + "{key}/rotate", {"grace_hours": 0}), ("AUTH_EXPIRED_KEY", 401)),
    "person disabled": (by_request("POST", USERS + "/{user}/disable"), ("AUTH_UNAUTHORIZED", 401)),
    "person lowered": (by_request("PATCH", USERS + "/{user}/role", {"role": "editor"}), ("AUTH_FORBIDDEN", 403)),
    "key revoked by command": (by_command(lambda c, p, _: keys.revoke_key(c, p.tenant, p.key_id)), ("AUTH_REVOKED_KEY", 401)),
    "key rotated by command": (
        by_command(lambda c, p, pepper: keys.rotate_key(c, pepper=pepper, tenant=p.tenant, key_id=p.key_id, grace=timedelta())),
        ("AUTH_EXPIRED_KEY", 401),
    ),
    "person disabled by command": (
        by_command(lambda c, p, _: users.set_active(c, p.tenant, p.user_id, active=False)),
        ("AUTH_UNAUTHORIZED", 401),
    ),
    "person lowered by command": (by_command(lambda c, p, _: users.set_role(c, p.tenant, p.user_id, "reader")), ("AUTH_FORBIDDEN", 403)),
    "tenant suspended": (by_command(lambda c, p, _: tenants.set_status(c, p.tenant, active=False)), ("AUTH_UNAUTHORIZED", 401)),
}  # fmt: skip


async def met(api: Api, url: str, key: str) -> tuple[str, int]:
    async with http(url, key) as client:
        answer = await client.get(PATH)
        return ("", 200) if answer.status_code == 200 else error_of(answer)


async def warm(api: Api, urls: tuple[str, str], person: Person) -> None:
    for url in urls:
        assert await met(api, url, person.key) == ("", 200)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_is_felt_everywhere(pair: tuple[Api, str], name: str) -> None:
    api, elsewhere = pair
    admin = await api.person()
    person = await api.person("admin", admin.tenant)
    urls = (api.base_url, elsewhere)
    await warm(api, urls, person)
    change, expected = CHANGES[name]
    await change(api, admin, person)
    for url in urls:
        await soon(lambda url=url: met(api, url, person.key), expected)


async def test_what_a_role_or_a_group_brought_ends_everywhere(pair: tuple[Api, str]) -> None:
    api, elsewhere = pair
    admin = await api.person()
    by_role, by_group = await api.person("admin", admin.tenant), await api.person("admin", admin.tenant)
    urls = (api.base_url, elsewhere)
    body = {"id": "operators", "name": "Operators", "actions": ["ops.read"]}
    assert (await admin.post(ROLES, json=body)).status_code == 201
    assert (await admin.patch(f"{USERS}/{by_role.user_id}/role", json={"custom_role": "operators"})).status_code == 200
    assert (await admin.patch(f"{USERS}/{by_group.user_id}/role", json={"role": "reader"})).status_code == 200
    group_id = await group(admin, "Operators", by_group, role="admin")
    for person in (by_role, by_group):
        for url in urls:
            await soon(lambda url=url, person=person: met(api, url, person.key), ("", 200))
    assert (await admin.patch(f"{ROLES}/operators", json={"actions": ["corpora.read"]})).status_code == 200
    assert (await admin.patch(f"{GROUPS}/{group_id}", json={"role": None})).status_code == 200
    for person in (by_role, by_group):
        for url in urls:
            await soon(lambda url=url, person=person: met(api, url, person.key), ("AUTH_FORBIDDEN", 403))


async def test_a_tenant_that_is_taken_back_works_as_before(pair: tuple[Api, str]) -> None:
    api, _ = pair
    person = await api.person()
    connection = await api.servers.admin()
    for active, expected in ((False, ("AUTH_UNAUTHORIZED", 401)), (True, ("", 200))):
        await tenants.set_status(connection, person.tenant, active=active)
        await soon(lambda: met(api, api.base_url, person.key), expected)
    await connection.close()
