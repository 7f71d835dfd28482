"""Manifest of the dashboard."""

from nexusrag.console.dashboard import routes
from nexusrag.web.domain import Domain

domain = Domain(name="dashboard", wing="console", routers=(routes.router,))
