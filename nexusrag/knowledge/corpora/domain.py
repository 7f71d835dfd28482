"""Manifest of corpora."""

from nexusrag.kernel.actions import Resource
from nexusrag.knowledge.corpora import models, repository, routes, service
from nexusrag.web.domain import Domain

domain = Domain(
    name="corpora",
    wing="knowledge",
    routers=(routes.router,),
    models=(models.Corpus,),
    loaders={Resource.CORPUS: repository.load},
    describes={Resource.CORPUS: service.describe},
)
