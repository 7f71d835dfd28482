"""Manifest of roles."""

from nexusrag.access.roles import models, repository, routes
from nexusrag.kernel.actions import Resource
from nexusrag.web.domain import Domain

domain = Domain(
    name="roles", wing="access", routers=(routes.router,), models=(models.CustomRole,), loaders={Resource.ROLE: repository.load}
)
