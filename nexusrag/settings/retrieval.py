"""Search."""

from pydantic import Field

from nexusrag.settings.group import Group


class RetrievalSettings(Group):
    retrieval_candidates: int = Field(100, ge=10, le=1000, description="candidates taken from each of lexical and dense search")
    retrieval_exact_limit: int = Field(5000, ge=0, description="most visible chunks that are scanned exactly; more go through the index")
    retrieval_hnsw_ef_search: int = Field(400, ge=40, le=1000, description="breadth of the index scan")
