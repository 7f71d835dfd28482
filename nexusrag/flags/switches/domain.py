"""Manifest of switches."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.flags.switches import routes
from nexusrag.flags.switches.switches import Switches
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _switches(resources: Resources) -> AsyncIterator[None]:
    switches = Switches(resources.get(Changes), resources.get(Database), resources.get(Settings).rollouts)
    resources.put(Switches, switches)
    await switches.open()
    try:
        yield
    finally:
        await switches.close()


domain = Domain(name="switches", wing="flags", routers=(routes.router,), opens=(_switches,))
