"""Manifest of permissions."""

from nexusrag.access.permissions import models, routes
from nexusrag.web.domain import Domain

domain = Domain(name="permissions", wing="access", routers=(routes.router,), models=(models.DocumentPermission, models.CorpusPermission))
