"""Manifest of documents."""

from nexusrag.kernel.actions import Resource
from nexusrag.knowledge.documents import models, repository, routes
from nexusrag.web.domain import Domain

domain = Domain(
    name="documents", wing="knowledge", routers=(routes.router,), models=(models.Document,), loaders={Resource.DOCUMENT: repository.load}
)
