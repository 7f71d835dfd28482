"""What other domains may ask of retrieval."""

from nexusrag.knowledge.retrieval.repository import options
from nexusrag.knowledge.retrieval.schemas import Filters, Question
from nexusrag.knowledge.retrieval.service import Found, Passage, Where, demand_provider, embed_question, search, where_of

__all__ = ["Filters", "Found", "Passage", "Question", "Where", "demand_provider", "embed_question", "options", "search", "where_of"]
