"""Manifest of single sign-on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.identity.sso import models, routes
from nexusrag.identity.sso.keysets import KeySets
from nexusrag.identity.sso.service import providers
from nexusrag.identity.sso.wire import Wire
from nexusrag.infra.outbound import Outbound
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Resource
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _wire(resources: Resources) -> AsyncIterator[None]:
    wire = resources.put(Wire, Wire(resources.get(Settings), resources.get(Outbound)))
    key_sets = resources.put(KeySets, KeySets(wire))
    try:
        yield
    finally:
        await key_sets.close()


domain = Domain(
    name="sso",
    wing="identity",
    routers=(routes.admin, routes.public),
    models=(models.IdentityProvider, models.UserIdentity),
    loaders={Resource.PROVIDER: providers.load},
    opens=(_wire,),
)
