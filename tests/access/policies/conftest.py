"""A connection to ask PostgreSQL what it makes of a condition or a pattern, as the application's role."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.support.installation import Servers


@pytest.fixture(scope="session")
async def database(servers: Servers) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await servers.admin()
    await connection.execute("set role nexusrag_app")
    yield connection
    await connection.close()
