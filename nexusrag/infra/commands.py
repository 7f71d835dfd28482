"""How commands of the command line act on the database: inside one tenant, with the driver alone, since half a second is all they have."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg


@asynccontextmanager
async def acting_in(connection: "asyncpg.Connection[Any]", tenant: str) -> AsyncIterator[None]:
    """A transaction that acts as the application does, inside `tenant`."""
    async with connection.transaction():
        await connection.execute("select set_config('role', 'nexusrag_app', true), set_config('app.tenant', $1, true)", tenant)
        yield
