"""Manifest of audit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.infra.resources import Resources
from nexusrag.security.audit.service import FailureSampler
from nexusrag.web.domain import Domain


@asynccontextmanager
async def _sampler(resources: Resources) -> AsyncIterator[None]:
    resources.put(FailureSampler, FailureSampler())
    yield


domain = Domain(name="audit", wing="security", opens=(_sampler,))
