"""Who is switched off or removed by the identity provider is out within a second, everywhere, streams in progress included."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any

import httpx
import pytest

from tests.agents.scripted import Installation, asking, code_of, installation
from tests.identity.accounts.people import account, login
from tests.identity.scim.client import Scim, provisioning, refused
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, rows
from tests.support.installation import Servers, serving
from tests.support.soon import soon

OUT = ("AUTH_UNAUTHORIZED", 401)
End = Callable[[Scim, str], Awaitable[httpx.Response]]


async def patched_as_okta_does(client: Scim, user_id: str) -> httpx.Response:
    return await client.patch(f"/Users/{user_id}", {"op": "replace", "value": {"active": False}})


async def patched_as_entra_does(client: Scim, user_id: str) -> httpx.Response:
    return await client.patch(f"/Users/{user_id}", {"op": "Replace", "path": "active", "value": "False"})


async def replaced(client: Scim, user_id: str) -> httpx.Response:
    body = (await client.get(f"/Users/{user_id}")).json()
    return await client.put(f"/Users/{user_id}", body | {"active": False})


async def removed(client: Scim, user_id: str) -> httpx.Response:
    return await client.delete(f"/Users/{user_id}")


ENDS: list[End] = [patched_as_okta_does, patched_as_entra_does, replaced, removed]


async def employee(api: Api, client: Scim, role: str = "reader") -> Person:
    """Somebody whom the client keeps, with a key that narrows nothing."""
    person = await api.person("admin", client.tenant)
    await rows(
        api,
        "update users set service = false, user_name = $2, scim = '{}', role = $3 where id = $1",
        person.user_id,
        f"{person.user_id}@x",
        role,
    )
    return person


async def met(person: Any, path: str = "/v1/corpora") -> tuple[str, int]:
    answer = await person.get(path)
    return ("", 200) if answer.status_code == 200 else error_of(answer)


@pytest.mark.parametrize("end", ENDS)
async def test_keys_and_logins_end_in_every_process_within_a_second(api: Api, end: End) -> None:
    client = await provisioning(api)
    somebody = await account(api, admin=client.admin)
    made = await somebody.post("/v1/self-serve/api-keys", json={"role": "reader"})
    assert made.status_code in (200, 403)  # readers make no keys; their logins are what ends
    keyed = await employee(api, client)
    async with serving(api.servers.with_env(AUTH_CACHE_TTL_S="300")) as (_, url), keyed.at(url) as elsewhere:
        assert [await met(one) for one in (somebody, keyed, elsewhere)] == [("", 200)] * 3
        for user_id in (somebody.user_id, keyed.user_id):
            assert (await end(client, user_id)).status_code in (200, 204)
        assert await met(keyed) == OUT
        for one in (somebody, elsewhere):
            await soon(lambda one=one: met(one), OUT)  # type: ignore[misc]
    assert (await somebody.refresh()).status_code == 401
    assert (await login(api.anonymous(), somebody.email)).status_code == 401
    live = "select count(*) from auth_sessions where user_id = $1 and revoked_at is null"
    assert await count(api, live, somebody.user_id) == 0
    event = "identity.scim.user.deleted" if end is removed else "identity.scim.user.disabled"
    assert {one["resource_id"] for one in await audited(api, client.tenant, event)} == {somebody.user_id, keyed.user_id}


async def test_who_is_switched_on_again_logs_in_anew(api: Api) -> None:
    client = await provisioning(api)
    somebody, keyed = await account(api, admin=client.admin), await employee(api, client)
    for person in (somebody, keyed):
        await patched_as_entra_does(client, person.user_id)
        answer = await client.patch(f"/Users/{person.user_id}", {"op": "Replace", "path": "active", "value": "True"})
        assert answer.json()["active"] is True
    await soon(lambda: met(keyed), ("", 200))
    assert (await met(somebody))[1] == 401
    assert await met(await somebody.login()) == ("", 200)


@pytest.fixture(scope="module")
async def scripted(servers: Servers) -> AsyncIterator[Installation]:
    async with installation(servers) as held:
        yield held


@pytest.mark.parametrize("end", [patched_as_okta_does, removed])
async def test_a_stream_in_progress_ends_within_a_second(scripted: Installation, end: End) -> None:
    api = scripted.api
    client = await provisioning(api)
    person = await employee(api, client, "editor")
    corpus = await person.corpus()
    await person.text(corpus, "The lighthouse keeper is called Ada.")
    async with asking(person, corpus, scripted.model.play("one ", asyncio.Event(), "never")) as stream:
        await stream.read(2)
        assert (await end(client, person.user_id)).status_code in (200, 204)
        began = monotonic()
        events = await stream.rest()
        assert monotonic() - began < 5
    assert code_of(events) == "AUTH_REVOKED_KEY"


@pytest.mark.parametrize("end", ENDS)
async def test_the_last_active_admin_stays(api: Api, end: End) -> None:
    client = await provisioning(api)
    admin = await employee(api, client, "admin")
    await rows(api, "update users set status = 'disabled' where id = $1", client.admin.user_id)
    answer = await end(client, admin.user_id)
    assert refused(answer) == (409, None)
    assert "admin" in answer.json()["detail"]
    assert (await client.get(f"/Users/{admin.user_id}")).json()["active"] is True
    assert await met(admin, "/v1/ops/health") == ("", 200)
    second = await employee(api, client, "admin")
    assert (await end(client, second.user_id)).status_code in (200, 204)


async def test_the_last_admin_by_a_group_stays_in_it(api: Api) -> None:
    client = await provisioning(api)
    person = await employee(api, client)
    group = await client.group("Admins", person.user_id)
    await client.admin.patch(f"/v1/admin/identity/groups/{group['id']}", json={"role": "admin"})
    await soon(lambda: met(person, "/v1/ops/health"), ("", 200))
    await rows(api, "update users set status = 'disabled' where id = $1", client.admin.user_id)
    for answer in (
        await client.patch(f"/Groups/{group['id']}", {"op": "remove", "path": f'members[value eq "{person.user_id}"]'}),
        await client.put(f"/Groups/{group['id']}", {"displayName": "Admins"}),
        await client.delete(f"/Groups/{group['id']}"),
        await patched_as_okta_does(client, person.user_id),
    ):
        assert refused(answer) == (409, None)
    assert await met(person, "/v1/ops/health") == ("", 200)


async def test_of_all_admins_at_once_one_stays(api: Api) -> None:
    client = await provisioning(api)
    people = [await employee(api, client, "admin") for _ in range(4)]
    await rows(api, "update users set status = 'disabled' where id = $1", client.admin.user_id)
    answers = await asyncio.gather(*(end(client, person.user_id) for end, person in zip(ENDS, people, strict=True)))
    assert sorted(answer.status_code == 409 for answer in answers) == [False, False, False, True]
    left = "select count(*) from users where tenant_id = $1 and role = 'admin' and status = 'active' and not service"
    assert await count(api, left, client.tenant) == 1
