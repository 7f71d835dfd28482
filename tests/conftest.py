"""One installation per test process, shared by its tests, each of which works in tenants of its own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from nexusrag.infra import logs
from tests.support.api import Api
from tests.support.installation import Servers, serving, working


@pytest.fixture(scope="session", autouse=True)
def quiet_logs() -> None:
    """The product's own logs, errors alone. Unconfigured, each one is drawn with all local variables, which takes seconds."""
    logs.configure("ERROR")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and Redis, migrated."""
    held = Servers()
    yield held
    held.close()


@pytest.fixture(scope="session")
async def shared_api(servers: Servers) -> AsyncIterator[Api]:
    settings = servers.with_env()
    async with serving(settings) as (app, base_url), working(settings):
        api = Api(servers, app, base_url)
        yield api
        await api.close()


@pytest.fixture
async def api(shared_api: Api) -> Api:
    """The API with a worker behind it."""
    return shared_api
