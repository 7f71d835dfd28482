"""Manifest of roles."""

from nexusrag.web.domain import Domain

domain = Domain(name="roles", wing="access")
