"""Manifest of admission."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.billing.admission.emptied import Emptied
from nexusrag.billing.admission.service import Admissions
from nexusrag.billing.admission.strangers import Strangers
from nexusrag.billing.admission.upkeep import Upkeep
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _admissions(resources: Resources) -> AsyncIterator[None]:
    admissions = resources.put(Admissions, Admissions(resources))
    resources.put(Emptied, Emptied())
    resources.put(Strangers, Strangers(resources))
    async with Upkeep(admissions, resources.get(Database)).running():
        yield


domain = Domain(name="admission", wing="billing", opens=(_admissions,))
