"""A process without domains, and a queue of its own for each test."""

from collections.abc import AsyncIterator

import pytest

from nexusrag.infra.resources import Resources
from nexusrag.process import open_process
from tests.support.installation import Servers
from tests.support.queues import Queue


@pytest.fixture(scope="session")
async def bare_process(servers: Servers) -> AsyncIterator[Resources]:
    async with open_process(servers.with_env(), ()) as resources:
        yield resources


@pytest.fixture
async def queue(servers: Servers, bare_process: Resources) -> Queue:
    return Queue(servers, bare_process)
