"""Manifest of health."""

from nexusrag.operations.health import routes
from nexusrag.web.domain import Domain

domain = Domain(name="health", wing="operations", routers=(routes.root, routes.ops))
