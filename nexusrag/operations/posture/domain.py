"""Manifest of posture."""

from nexusrag.operations.posture import routes
from nexusrag.web.domain import Domain

domain = Domain(name="posture", wing="operations", routers=(routes.router,))
