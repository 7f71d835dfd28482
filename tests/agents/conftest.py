"""One installation with a scripted model for all tests of runs that need no settings of their own."""

from collections.abc import AsyncIterator

import pytest

from tests.agents.scripted import Installation, installation
from tests.support.installation import Servers


@pytest.fixture(scope="session")
async def scripted(servers: Servers) -> AsyncIterator[Installation]:
    async with installation(servers) as held:
        yield held
