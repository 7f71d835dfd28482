"""HTTP face of corpora: /v1/corpora."""

from nexusrag.knowledge.corpora import gates, service
from nexusrag.knowledge.corpora.models import Corpus, CorpusView
from nexusrag.knowledge.corpora.schemas import CorpusCreate, CorpusDeletion, CorpusOut, CorpusPatch
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

router = Router("corpora", tag="Corpora")


@router.get("", gate=gates.LIST)
async def list_corpora(call: Call) -> list[CorpusOut]:
    """List the tenant's corpora, newest first."""
    return await service.list_corpora(call)


@router.post("", gate=gates.CREATE, status_code=201)
async def create_corpus(call: Call, body: CorpusCreate) -> CorpusOut:
    """Create a corpus. New corpora are restricted: their documents' permissions decide who reads them."""
    return await service.create(call, body)


@router.get("/{corpus_id}", gate=gates.READ)
async def get_corpus(call: Call, corpus: Loaded[CorpusView]) -> CorpusOut:
    """Get one corpus."""
    return CorpusOut.of(corpus)


@router.patch("/{corpus_id}", gate=gates.UPDATE)
async def update_corpus(call: Call, corpus: Loaded[Corpus], patch: CorpusPatch) -> CorpusOut:
    """Rename a corpus, open or close it to the tenant, or change its retrieval provider."""
    return await service.update(call, corpus, patch)


@router.delete("/{corpus_id}", gate=gates.DELETE, status_code=202)
async def delete_corpus(call: Call, corpus: Loaded[Corpus]) -> CorpusDeletion:
    """Hide a corpus at once; a job removes its documents, their index and their files."""
    return await service.delete(call, corpus)
