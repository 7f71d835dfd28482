"""What each retrieval route demands."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.traffic import RouteClass
from nexusrag.web.gate import gate

SEARCH = gate(Action.CORPORA_SEARCH, Resource.CORPUS, rate=RouteClass.READ, idempotent=False, despite_freeze=True)
