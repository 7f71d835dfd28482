"""Manifest of permissions."""

from nexusrag.access.permissions import models
from nexusrag.web.domain import Domain

domain = Domain(name="permissions", wing="access", models=(models.DocumentPermission,))
