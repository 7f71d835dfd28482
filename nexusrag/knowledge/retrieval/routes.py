"""HTTP face of retrieval: a search without a run."""

from nexusrag.access.policies.facade import caller_of
from nexusrag.knowledge.corpora.facade import CorpusView, parse
from nexusrag.knowledge.retrieval import gates, repository, service
from nexusrag.knowledge.retrieval.schemas import PassageOut, SearchAnswer, SearchRequest
from nexusrag.settings import Settings
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

router = Router("corpora", tag="Search")


@router.post("/{corpus_id}/search", gate=gates.SEARCH)
async def search_corpus(call: Call, corpus: Loaded[CorpusView], body: SearchRequest) -> SearchAnswer:
    """The best passages of a corpus among those that the caller may see, without asking a model."""
    local_only = call.limits.local_only
    if not local_only:
        await service.demand_provider(call, corpus)
    where = service.where_of(call.principal, corpus, body.filters, body.document_ids, local_only=local_only)
    top_k = call.limits.passages(body.top_k or parse(corpus.provider_config).top_k_default)
    await call.end_work()  # nothing holds a connection while a model works
    vector = await service.embed_question(call.resources, body.query, tenant_id=call.tenant_id)
    async with call.work(options=repository.options(call.of(Settings))) as work:
        found = await service.search(call.resources, work, caller_of(call), where, body.query, vector, top_k)
        used = await service.billable(call, work, body.query)
    await service.charge(call, used)
    return SearchAnswer(passages=[PassageOut.of(passage) for passage in found.passages], complete=found.complete, method=found.method)
