"""What other domains may ask of documents."""

from nexusrag.knowledge.documents import gates
from nexusrag.knowledge.documents.models import Document
from nexusrag.knowledge.documents.repository import (
    count_by_status,
    delete,
    fail,
    finish,
    matches,
    of_corpus,
    page,
    restore,
    set_progress,
    start,
    totals,
    wait,
)
from nexusrag.knowledge.documents.schemas import DocumentAccepted, DocumentOut, Reindex
from nexusrag.knowledge.documents.service import INGEST, reindex

__all__ = [
    "INGEST", "Document", "DocumentAccepted", "DocumentOut", "Reindex", "count_by_status", "delete", "fail",
    "finish", "gates", "matches", "of_corpus", "page", "reindex", "restore", "set_progress", "start", "totals", "wait",
]  # fmt: skip
