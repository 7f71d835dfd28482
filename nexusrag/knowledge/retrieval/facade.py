"""What other domains may ask of retrieval."""

from nexusrag.knowledge.retrieval.schemas import Filters, Question
from nexusrag.knowledge.retrieval.service import Found, Passage, Where, embed_question, search, where_of
from nexusrag.knowledge.retrieval.statement import options

__all__ = ["Filters", "Found", "Passage", "Question", "Where", "embed_question", "options", "search", "where_of"]
