"""A pool of its own, and models of which every test has one of its own."""

from collections.abc import AsyncIterator, Callable

import pytest

from nexusrag.infra.database import Database
from nexusrag.kernel.ids import new_id
from tests.knowledge.retrieval_recall.library import Library
from tests.support.installation import Servers

NewLibrary = Callable[[int], Library]


@pytest.fixture(scope="session")
async def database(servers: Servers) -> AsyncIterator[Database]:
    held = Database(servers.settings.stores, pool_size=2)
    yield held
    await held.close()


@pytest.fixture(scope="session")
def new_library(servers: Servers, database: Database) -> NewLibrary:
    """A library for vectors of some dimension, in a space of the index that nothing else writes to."""
    return lambda dimensions: Library(servers, database, new_id("model"), dimensions)
