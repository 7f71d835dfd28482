"""Manifest of the console's bootstrap."""

from nexusrag.console.bootstrap import routes
from nexusrag.web.domain import Domain

domain = Domain(name="bootstrap", wing="console", routers=(routes.router,))
