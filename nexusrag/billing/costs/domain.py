"""Manifest of costs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.billing.costs import jobs, routes
from nexusrag.billing.costs.service import catalogue, chargeback
from nexusrag.billing.costs.service.charging import Degraded
from nexusrag.billing.costs.terms import SpendFigures, TermsCache
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Resource
from nexusrag.settings import Settings
from nexusrag.web.domain import Cron, Domain


@asynccontextmanager
async def _known(resources: Resources) -> AsyncIterator[None]:
    resources.put(TermsCache, TermsCache(resources.get(Changes), resources.get(Settings)))
    resources.put(Degraded, Degraded())
    figures = resources.put(SpendFigures, SpendFigures(resources.get(Database)))
    figures.start()
    try:
        yield
    finally:
        await figures.close()


domain = Domain(
    name="costs",
    wing="billing",
    routers=(routes.admin, routes.self_serve),
    loaders={Resource.PRICE: catalogue.load, Resource.CHARGEBACK_REPORT: chargeback.load},
    crons=(Cron(name="charge storage", every_s=3600, run=jobs.charge_storage, can_wait=True),),
    opens=(_known,),
)
