"""Manifest of tenants."""

from nexusrag.identity.tenants import models
from nexusrag.web.domain import Domain

domain = Domain(name="tenants", wing="identity", models=(models.Tenant,))
