"""What each document route demands."""

from nexusrag.kernel.actions import Action, Permission, Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.switches import Switch
from nexusrag.web.gate import gate

LIST = gate(Action.DOCUMENTS_READ, legacy=True)
READ = gate(Action.DOCUMENTS_READ, Resource.DOCUMENT, permission=Permission.READ, legacy=True)
CREATE = gate(
    Action.DOCUMENTS_CREATE,
    Resource.CORPUS,
    at="body",
    audit=EventType.DOCUMENTS_INGEST_ENQUEUED,
    bulkhead="ingest",
    switch=Switch.INGEST,
    legacy=True,
)
DELETE = gate(Action.DOCUMENTS_DELETE, Resource.DOCUMENT, permission=Permission.DELETE, audit=EventType.DOCUMENTS_DELETED, legacy=True)
REINDEX = gate(
    Action.DOCUMENTS_REINDEX,
    Resource.DOCUMENT,
    permission=Permission.REINDEX,
    audit=EventType.DOCUMENTS_REINDEX_ENQUEUED,
    bulkhead="ingest",
    switch=Switch.INGEST,
    legacy=True,
)
REINDEX_FROM_CONSOLE = gate(
    Action.DOCUMENTS_REINDEX,
    Resource.DOCUMENT,
    at="body",
    permission=Permission.REINDEX,
    audit=EventType.DOCUMENTS_REINDEX_ENQUEUED,
    bulkhead="ingest",
    switch=Switch.INGEST,
)
LIST_FOR_CONSOLE = gate(Action.DOCUMENTS_READ)
