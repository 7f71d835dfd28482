"""Manifest of documents."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.knowledge.documents import models, repository, routes, uploads
from nexusrag.web.domain import Domain

domain = Domain(
    name="documents",
    wing="knowledge",
    routers=(routes.router,),
    models=(models.Document,),
    loaders={Resource.DOCUMENT: repository.load},
    describes={Action.DOCUMENTS_CREATE: uploads.describe},
)
