"""Manifest of activity."""

from nexusrag.console.activity import routes
from nexusrag.web.domain import Domain

domain = Domain(name="activity", wing="console", routers=(routes.router,))
