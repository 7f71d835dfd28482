"""An installation as it comes: tenants that were assigned no plan have the free one, except the home tenant."""

from collections.abc import AsyncIterator

import pytest

from tests.support.api import Api
from tests.support.installation import Servers, serving, working


@pytest.fixture(scope="session")
async def free(servers: Servers) -> AsyncIterator[Api]:
    """An API with a worker, and DEFAULT_PLAN as it is when nobody sets it."""
    settings = servers.with_env(DEFAULT_PLAN="", INGEST_QUEUE_NAME="free")
    async with serving(settings) as (app, url), working(settings):
        api = Api(servers, app, url)
        await api.person()  # the home tenant is nobody's of the tests
        yield api
        await api.close()
