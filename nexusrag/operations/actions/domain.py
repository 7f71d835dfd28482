"""Manifest of operators' actions."""

from nexusrag.operations.actions import routes
from nexusrag.web.domain import Domain

domain = Domain(name="actions", wing="operations", routers=(routes.router,))
