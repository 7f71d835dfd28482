"""Manifest of encryption."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.infra.resources import Resources
from nexusrag.security.crypto.store import BlobStore, open_blob_store
from nexusrag.settings import Settings
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _blobs(resources: Resources) -> AsyncIterator[None]:
    resources.put(BlobStore, await asyncio.to_thread(open_blob_store, resources.get(Settings)))
    yield


domain = Domain(name="crypto", wing="security", opens=(_blobs,))
