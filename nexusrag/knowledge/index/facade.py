"""What other domains may ask of the index."""

from nexusrag.knowledge.index.models import LANGUAGE, DocumentVersion, IndexedChunk, NewVersion
from nexusrag.knowledge.index.repository import insert, known_vectors, remove, retire_others

__all__ = ["LANGUAGE", "DocumentVersion", "IndexedChunk", "NewVersion", "insert", "known_vectors", "remove", "retire_others"]
