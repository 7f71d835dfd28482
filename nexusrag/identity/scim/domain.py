"""Manifest of provisioning."""

from nexusrag.identity.scim import models, repository, routes
from nexusrag.kernel.actions import Resource
from nexusrag.web.domain import Domain

domain = Domain(
    name="scim",
    wing="identity",
    routers=(routes.admin, routes.scim),
    models=(models.ScimToken,),
    loaders={Resource.SCIM_TOKEN: repository.load_token},
)
