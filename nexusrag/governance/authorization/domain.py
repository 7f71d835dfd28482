"""Manifest of authorization as it is seen from outside."""

from nexusrag.governance.authorization import routes
from nexusrag.web.domain import Domain

domain = Domain(name="authorization", wing="governance", routers=(routes.router,))
