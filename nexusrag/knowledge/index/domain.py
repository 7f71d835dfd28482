"""Manifest of the index."""

from nexusrag.knowledge.index import models
from nexusrag.web.domain import Domain

domain = Domain(name="index", wing="knowledge", models=(models.DocumentVersion,))
