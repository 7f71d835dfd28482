"""Manifest of API keys."""

from nexusrag.identity.api_keys import models, repository, routes
from nexusrag.kernel.actions import Resource
from nexusrag.web.domain import Domain

domain = Domain(
    name="api_keys",
    wing="identity",
    routers=(routes.admin, routes.self_serve),
    models=(models.ApiKey,),
    loaders={Resource.API_KEY: repository.load},
)
