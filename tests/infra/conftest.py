"""A process without domains, a queue and a database of its own for each test."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from nexusrag.infra.redis import Redis
from nexusrag.infra.resources import Resources
from nexusrag.kernel.ids import new_id
from nexusrag.process import open_process
from tests.support.installation import Servers
from tests.support.queues import Queue


@pytest.fixture(scope="session")
async def bare_process(servers: Servers) -> AsyncIterator[Resources]:
    async with open_process(servers.with_env(), ()) as resources:
        resources.get(Redis)._budget_s = 5  # a busy machine is not what is tested
        yield resources


@pytest.fixture
async def queue(servers: Servers, bare_process: Resources) -> Queue:
    return Queue(servers, bare_process)


@pytest.fixture
async def empty(servers: Servers) -> AsyncIterator[str]:
    """The URL of a new database."""
    admin, name = await servers.admin(), new_id("migrated")
    await admin.execute(f"create database {name}")
    parts = urlsplit(servers.settings.stores.database_migration_url.get_secret_value())
    yield urlunsplit(parts._replace(path=f"/{name}"))
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()
