"""Manifest of ingestion."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.infra.jobs import JobHandler
from nexusrag.infra.resources import Resources
from nexusrag.kernel.switches import Switch
from nexusrag.knowledge.corpora.facade import REMOVE
from nexusrag.knowledge.documents.facade import INGEST
from nexusrag.knowledge.ingestion import jobs
from nexusrag.knowledge.parsing.facade import Sandbox
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _sandbox(resources: Resources) -> AsyncIterator[None]:
    sandbox = resources.put(Sandbox, Sandbox(resources.get(Settings).ingestion))
    try:
        yield
    finally:
        await sandbox.close()


domain = Domain(
    name="ingestion",
    wing="knowledge",
    jobs=(
        JobHandler(kind=INGEST, run=jobs.ingest, dead=jobs.give_up, switch=Switch.INGEST),
        JobHandler(kind=REMOVE, run=jobs.remove_corpus),
    ),
    opens=(_sandbox,),
)
