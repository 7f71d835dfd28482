"""Revocation reaches every process within a second, and a process that might miss one caches nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nexusrag.identity.api_keys.provision import revoke_key
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from tests.support.api import Api, Person, error_of
from tests.support.behind import rows
from tests.support.installation import Servers, http, serving

pytestmark = pytest.mark.slow
REVOKED = ("AUTH_REVOKED_KEY", 401)


@pytest.fixture(scope="module")
async def pair(servers: Servers) -> AsyncIterator[tuple[Api, Api]]:
    """Two API processes' worth of caches, each of which would keep a credential for five minutes."""
    settings = servers.with_env(AUTH_CACHE_TTL_S="300")
    async with serving(settings) as (app, url), serving(settings) as (other_app, other_url):
        apis = Api(servers, app, url), Api(servers, other_app, other_url)
        yield apis
        for api in apis:
            await api.close()


async def until_listening(*apis: Api) -> None:
    async with asyncio.timeout(10):
        while not all(api.resources.get(Changes).live for api in apis):
            await asyncio.sleep(0.01)


async def test_a_revoked_key_is_refused_everywhere_within_a_second(pair: tuple[Api, Api]) -> None:
    await until_listening(*pair)
    person = await pair[0].person()
    async with http(pair[1].base_url, person.key) as elsewhere:
        for client in (person.client, elsewhere):
            assert (await client.get("/v1/corpora")).status_code == 200
        connection = await pair[0].servers.admin()
        assert await revoke_key(connection, person.tenant, person.key_id)
        assert await revoke_key(connection, person.tenant, person.key_id)
        assert not await revoke_key(connection, "another-tenant", person.key_id)
        await connection.close()
        async with asyncio.timeout(5):
            for client in (person.client, elsewhere):
                while (answer := await client.get("/v1/corpora")).status_code == 200:
                    await asyncio.sleep(0.01)
                assert error_of(answer) == REVOKED


async def test_a_change_of_people_empties_the_cache(pair: tuple[Api, Api]) -> None:
    await until_listening(*pair)
    person = await pair[0].person()
    assert (await person.get("/v1/corpora")).status_code == 200
    await rows(
        pair[0],
        "with changed as (update users set status = 'disabled' where tenant_id = $1 returning tenant_id, id) "
        "select pg_notify('nexusrag_changes', 'person ' || tenant_id || '/' || id) from changed",
        person.tenant,
    )
    async with asyncio.timeout(5):
        while (answer := await person.get("/v1/corpora")).status_code == 200:
            await asyncio.sleep(0.01)
    assert error_of(answer) == ("AUTH_UNAUTHORIZED", 401)


async def revoke_silently(api: Api, person: Person) -> None:
    await rows(api, "update api_keys set revoked_at = now() where tenant_id = $1", person.tenant)


async def test_nothing_is_cached_while_nobody_listens(pair: tuple[Api, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    api = pair[0]
    await until_listening(api)
    cached, person = await api.person(), await api.person()
    assert (await cached.get("/v1/corpora")).status_code == 200
    await revoke_silently(api, cached)
    assert (await cached.get("/v1/corpora")).status_code == 200, "while somebody listens, the cache is believed"

    async def refuse() -> Any:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(api.resources.get(Database), "connect_raw", refuse)
        await rows(api, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'nexusrag'")
        async with asyncio.timeout(10):
            while api.resources.get(Changes).live:
                await asyncio.sleep(0.01)
        assert error_of(await cached.get("/v1/corpora")) == REVOKED
        assert (await person.get("/v1/corpora")).status_code == 200
        await revoke_silently(api, person)
        assert error_of(await person.get("/v1/corpora")) == REVOKED
    await until_listening(*pair)
