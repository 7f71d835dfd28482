"""Manifest of encryption."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.infra.jobs import JobHandler
from nexusrag.infra.resources import Resources
from nexusrag.security.crypto import jobs
from nexusrag.security.crypto.store import ABANDONED, REMOVE, BlobStore, open_blob_store
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _blobs(resources: Resources) -> AsyncIterator[None]:
    resources.put(BlobStore, await asyncio.to_thread(open_blob_store, resources.get(Settings)))
    yield


domain = Domain(
    name="crypto",
    wing="security",
    jobs=(JobHandler(kind=REMOVE, run=jobs.remove), JobHandler(kind=ABANDONED, run=jobs.clear_abandoned)),
    opens=(_blobs,),
)
