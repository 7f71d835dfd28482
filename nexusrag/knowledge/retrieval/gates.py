"""What each retrieval route demands."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.web.gate import gate

SEARCH = gate(Action.CORPORA_SEARCH, Resource.CORPUS, idempotent=False)
