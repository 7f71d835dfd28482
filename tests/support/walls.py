"""The walls between tenants, taken away one at a time: row-level security, and the criterion on entities."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from sqlalchemy import event

from nexusrag.infra.database import Database
from nexusrag.infra.urls import connect_arguments
from tests.support.api import Api
from tests.support.installation import Servers, serving, working

Standing = Literal["both walls", "no criterion", "no row-level security", "no wall"]


@asynccontextmanager
async def walled(servers: Servers, standing: Standing) -> AsyncIterator[Api]:
    """An API, and a worker behind it, of which both walls stand, one, or none."""
    settings = servers.with_env()
    async with serving(settings) as (app, url), working(settings):
        api = Api(servers, app, url)
        database = api.resources.get(Database)
        if standing in ("no criterion", "no wall"):
            database.tenant_criterion = False
        if standing in ("no row-level security", "no wall"):
            await without_row_level_security(database, servers)
        await api.person()
        async with database.work(None) as work:
            seen = await work.raw.fetchval("select count(*) from tenants")
        assert (seen > 0) is (standing in ("no row-level security", "no wall")), "the wall is not where this test thinks"
        yield api
        await api.close()


async def without_row_level_security(database: Database, servers: Servers) -> None:
    """From now on the pool logs in as the superuser and stays it."""
    database._arguments = connect_arguments(servers.settings.stores.database_migration_url.get_secret_value())

    @event.listens_for(database.engine.sync_engine, "connect")
    def stay_superuser(connection: Any, _: Any) -> None:
        connection.run_async(lambda driver: driver.execute("set role none"))

    await database.dispose()
