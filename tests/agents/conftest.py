"""One installation with a scripted model for all tests of runs that need no settings of their own."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from tests.agents.scripted import Installation, installation
from tests.support.installation import Servers


@pytest.fixture(scope="session", autouse=True)
def quiet_logs() -> Iterator[None]:
    """Without this each logged error is drawn with all its local variables, which takes seconds."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
async def scripted(servers: Servers) -> AsyncIterator[Installation]:
    async with installation(servers) as held:
        yield held
