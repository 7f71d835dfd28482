"""What each corpus route demands. Names and configuration of corpora are open to every member; what is inside is not."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

LIST = gate(Action.CORPORA_READ, legacy=True)
READ = gate(Action.CORPORA_READ, Resource.CORPUS, legacy=True)
CREATE = gate(Action.CORPORA_CREATE, audit=EventType.CORPORA_CREATED)
UPDATE = gate(Action.CORPORA_WRITE, Resource.CORPUS, audit=EventType.CORPORA_UPDATED, legacy=True)
DELETE = gate(Action.CORPORA_DELETE, Resource.CORPUS, audit=EventType.CORPORA_DELETED)
