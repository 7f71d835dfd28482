"""Manifest of the console's documents."""

from nexusrag.console.documents import routes
from nexusrag.web.domain import Domain

domain = Domain(name="documents", wing="console", routers=(routes.router,))
