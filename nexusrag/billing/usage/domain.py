"""Manifest of usage."""

from nexusrag.billing.usage import routes
from nexusrag.web.domain import Domain

domain = Domain(name="usage", wing="billing", routers=(routes.admin, routes.self_serve, routes.own_plan))
