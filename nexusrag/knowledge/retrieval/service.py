"""Use cases of retrieval: the passages for a question, for one caller."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from nexusrag.access.policies.facade import Caller
from nexusrag.billing.costs.facade import PATIENCE, Metered, best_effort, charge_now, is_free
from nexusrag.billing.plans.facade import require
from nexusrag.flags.switches.facade import demand_other_providers
from nexusrag.infra.database import Work, halfvec
from nexusrag.infra.metrics import RETRIEVAL
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Permission
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.features import Feature
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.principal import Principal
from nexusrag.knowledge.corpora.facade import CorpusView, LocalPgvector, feature_of, parse
from nexusrag.knowledge.retrieval import repository
from nexusrag.knowledge.retrieval.spaces import Spaces
from nexusrag.knowledge.visibility import rule
from nexusrag.providers.embeddings.port import Embedder
from nexusrag.providers.llm.port import estimate_tokens
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that retrieval returned. `start` and `end` are character offsets into the document's text; scores are of each stage."""

    chunk_id: int
    document_id: str
    filename: str
    version: int
    ord: int
    text: str
    heading: tuple[str, ...]
    start: int
    end: int
    page: int | None
    page_end: int | None
    hash: str
    metadata: dict[str, Any]
    score: float
    bm25: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Found:
    """`complete`: the vectors of all that the caller may see were compared, none was skipped by an approximate index."""

    passages: list[Passage]
    complete: bool
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What is searched."""

    corpus_key: int
    space_id: int | None
    filters: dict[str, Any]
    document_ids: list[str] | None = None


def where_of(
    principal: Principal,
    corpus: CorpusView,
    filters: dict[str, Any] | None,
    document_ids: list[str] | None = None,
    *,
    local_only: bool = False,
) -> Where:
    """Raises FEATURE_NOT_ENABLED for a provider that the plan lacks, INTEGRATION_UNAVAILABLE for one that this release cannot ask.

    `local_only`: our own index is searched, whatever provider the corpus names.
    """
    require(principal, Feature.LOCAL_PGVECTOR if local_only else feature_of(corpus.provider_config))
    config = parse(corpus.provider_config)
    if not isinstance(config, LocalPgvector) and not local_only:
        raise ApiError(
            ErrorCode.INTEGRATION_UNAVAILABLE,
            f"This corpus retrieves through {config.provider}, which this release validates but does not call; use local_pgvector.",
            {"provider": config.provider},
        )
    return Where(corpus_key=corpus.key, space_id=corpus.space_id, filters=filters or {}, document_ids=document_ids)


async def demand_provider(call: CallContext, corpus: CorpusView) -> None:
    """Raises FEATURE_TEMPORARILY_DISABLED while operators let nobody ask the corpus's provider, or not this tenant."""
    if not isinstance(parse(corpus.provider_config), LocalPgvector):
        await demand_other_providers(call.resources, call.tenant_id)


async def embed_question(resources: Resources, question: str, *, tenant_id: str = "") -> NDArray[np.float32]:
    """The question's vector; call it before a transaction is opened, since a model may take its time."""
    embedder = resources.get(Embedder)
    vectors = await embedder.embed([question], urgent=True, tenant_id=tenant_id)
    vector: NDArray[np.float32] = vectors[0]
    return vector


async def search(
    resources: Resources,
    work: Work,
    caller: Caller,
    where: Where,
    question: str,
    vector: NDArray[np.float32],
    top_k: int,
    *,
    mode: str = "hybrid",
) -> Found:
    """The best `top_k` passages among those that `caller` may see. `work` carries `repository.options`.

    Raises EMBEDDING_DIMENSION_MISMATCH when the corpus was indexed with another model than the one in use.
    """
    if where.space_id is None:
        return Found([], True, "empty")
    settings = resources.get(Settings)
    model = resources.get(Embedder).model
    space = await resources.get(Spaces).of(work, where.space_id)
    if space.model != model.name:
        raise ApiError(
            ErrorCode.EMBEDDING_DIMENSION_MISMATCH,
            f"The corpus was indexed with {space.model}, the installation uses {model.name}; use that model, or ingest into a new corpus.",
            {"corpus_model": space.model, "model": model.name},
        )
    began = perf_counter()
    limits = settings.retrieval
    exact_limit = limits.retrieval_exact_limit if space.indexed else repository.WITHOUT_INDEX
    reading = rule(caller, Permission.READ)
    query = repository.search(
        mode,
        reading.shape,
        limits.retrieval_candidates,
        exact_limit,
        where.space_id,
        model.dimensions,
    )
    choices = {key: value if isinstance(value, list) else [value] for key, value in where.filters.items()}
    values = {
        "question": question,
        "vector": halfvec(vector),
        "corpus_key": where.corpus_key,
        "tenant_id": caller.principal.tenant_id,
        "top_k": top_k,
        "filters": orjson.dumps(choices).decode() if choices else None,
        "document_ids": where.document_ids,
        **reading.values,
    }
    rows = await query.fetch(work, values)
    RETRIEVAL.observe(perf_counter() - began)
    seen = rows[0]["seen"] if rows else 0
    exact = seen <= exact_limit
    return Found([_passage(row) for row in rows], exact, "exact" if exact else "index")


async def billable(call: CallContext, work: Work, question: str) -> list[Metered]:
    """What a search of its own uses; nothing where all of it runs here and has no price, so that a search need not write."""
    model = call.resources.get(Embedder).model
    provider = call.of(Settings).embeddings.embedding_provider
    used = [
        Metered(component="embedding", provider=provider, model=model.name, input_tokens=estimate_tokens(question), estimated=True),
        Metered(component="retrieval", provider="local_pgvector"),
    ]
    return [] if await is_free(call.resources, work, used) else used


async def charge(call: CallContext, used: list[Metered]) -> None:
    """Charge a search, which was answered already: it does not fail for that, nor wait for long."""
    if not used:
        return
    caller = call.principal
    async with best_effort(call.resources, call.tenant_id), call.work(options=PATIENCE) as work:
        await charge_now(
            call.resources, work, new_id("search"), call.route_class, used, user_id=caller.subject_id, credential_id=caller.credential_id
        )


def _passage(row: Any) -> Passage:
    return Passage(
        chunk_id=row["chunk_id"],
        document_id=row["document_id"],
        filename=row["filename"],
        version=row["version_number"],
        ord=row["ord"],
        text=row["text"],
        heading=tuple(row["heading"]),
        start=row["start_char"],
        end=row["end_char"],
        page=row["page"],
        page_end=row["page_end"],
        hash=row["hash"].hex(),
        metadata=row["labels"],
        score=float(row["score"]),
        bm25=float(row["bm25"]),
        cosine=float(row["cosine"]),
    )
