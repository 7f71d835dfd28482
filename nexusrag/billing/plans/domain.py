"""Manifest of plans."""

from nexusrag.billing.plans import routes
from nexusrag.web.domain import Domain

domain = Domain(name="plans", wing="billing", routers=(routes.admin, routes.self_serve))
