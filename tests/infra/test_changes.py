"""What processes hear of each other's changes, and that a process which cannot hear forgets what it knew."""

import asyncio

import pytest

from nexusrag.infra.changes import Changes, announce
from nexusrag.infra.database import Database
from tests.support.api import Api, error_of
from tests.support.installation import Servers, serving
from tests.support.processes import database_proxy, until
from tests.support.queues import Queue


class Ear:
    """Somebody who listens."""

    def __init__(self, changes: Changes) -> None:
        self.changes = changes
        self.heard: list[str] = []
        self.forgotten = 0
        changes.on("thing", self.heard.append, dropped=self.forget)

    def forget(self) -> None:
        self.forgotten += 1

    async def live(self, wanted: bool = True) -> None:
        async def agrees() -> bool:
            return self.changes.live is wanted

        await until(agrees, every_s=0.005)


async def test_a_change_is_heard_once_it_is_committed_and_never_when_it_is_not(queue: Queue) -> None:
    database = queue.resources.get(Database)
    ear = Ear(Changes(database))
    ear.changes.start()
    try:
        await ear.live()
        with pytest.raises(KeyError):
            async with database.work("tenant-a") as work:
                await announce(work, "thing", "never")
                raise KeyError
        async with database.work("tenant-a") as work:
            await announce(work, "another", "of no concern")
            await announce(work, "thing", "first")
            await announce(work, "thing", "second with spaces")

        async def both() -> bool:
            return len(ear.heard) >= 2

        await until(both)
        assert ear.heard == ["first", "second with spaces"]
    finally:
        await ear.changes.close()


async def test_losing_the_connection_makes_it_forget_and_listen_again(queue: Queue) -> None:
    database = queue.resources.get(Database)
    ear = Ear(Changes(database))
    ear.changes.start()
    try:
        await ear.live()
        forgotten = ear.forgotten
        await queue.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%'")

        async def again() -> bool:
            return ear.forgotten >= forgotten + 2 and ear.changes.live

        await until(again)
        async with database.work("tenant-a") as work:
            await announce(work, "thing", "after")

        async def heard() -> bool:
            return ear.heard == ["after"]

        await until(heard)
    finally:
        await ear.changes.close()


async def test_a_key_revoked_while_nothing_can_be_heard_is_refused(servers: Servers) -> None:
    """The listening connection is cut and kept away, while ordinary ones work: nothing may be answered from memory."""
    async with database_proxy(servers) as (proxy, url), serving(servers.with_env(DATABASE_URL=url)) as (app, base_url):
        api = Api(servers, app, base_url)
        person = await api.person()
        changes = api.resources.get(Changes)
        ear = Ear(changes)
        await ear.live()
        assert (await person.get("/v1/documents")).status_code == 200
        admin = await servers.admin()
        try:
            proxy.refusing = True
            proxy.cut()
            await ear.live(False)
            await admin.execute("update api_keys set revoked_at = now() where id = $1", person.key_id)  # nobody is told
            proxy.refusing = False
            assert error_of(await person.get("/v1/documents")) == ("AUTH_REVOKED_KEY", 401)
        finally:
            await admin.close()
            await api.close()


async def test_a_revoked_key_is_refused_by_other_processes_within_a_second(servers: Servers) -> None:
    async with serving(servers.with_env()) as (here, here_url), serving(servers.with_env()) as (_, there_url):
        api, other = Api(servers, here, here_url), Api(servers, here, there_url)
        person = await api.person()
        elsewhere = other.anonymous()
        elsewhere.headers["Authorization"] = f"Bearer {person.key}"
        for client in (person.client, elsewhere):
            assert (await client.get("/v1/documents")).status_code == 200
        admin = await servers.admin()
        try:
            async with admin.transaction():
                await admin.execute("update api_keys set revoked_at = now() where id = $1", person.key_id)
                await admin.execute("select pg_notify('nexusrag_changes', $1)", f"credential {person.key_id}")

            async def refused() -> bool:
                return all([(await client.get("/v1/documents")).status_code == 401 for client in (person.client, elsewhere)])

            await until(refused, within_s=5)
        finally:
            await admin.close()
            await api.close()
            await other.close()


async def test_closing_ends_the_listener(queue: Queue) -> None:
    ear = Ear(Changes(queue.resources.get(Database)))
    ear.changes.start()
    await ear.live()
    await ear.changes.close()
    assert not ear.changes.live
    await asyncio.sleep(0)
