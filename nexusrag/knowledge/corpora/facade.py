"""What other domains may ask of corpora."""

from nexusrag.knowledge.corpora.config import BedrockKnowledgeBase, LocalPgvector, VertexSearch, feature_of, parse
from nexusrag.knowledge.corpora.models import Corpus, CorpusView
from nexusrag.knowledge.corpora.repository import claim_space, find, keep_open, load, remove, space_of
from nexusrag.knowledge.corpora.service import REMOVE

__all__ = [
    "REMOVE",
    "BedrockKnowledgeBase",
    "Corpus",
    "CorpusView",
    "LocalPgvector",
    "VertexSearch",
    "claim_space",
    "feature_of",
    "find",
    "keep_open",
    "load",
    "parse",
    "remove",
    "space_of",
]
