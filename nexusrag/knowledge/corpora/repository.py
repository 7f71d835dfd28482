"""All SQL of corpora."""

from collections.abc import Sequence

from sqlalchemy import select

from nexusrag.infra.database import Work
from nexusrag.kernel.actions import Action
from nexusrag.kernel.errors import not_found
from nexusrag.knowledge.corpora.models import Corpus, CorpusView
from nexusrag.web.call import CallContext


async def load(call: CallContext, corpus_id: str) -> Corpus | CorpusView:
    """The corpus of the caller's tenant, or not found (also when it is being deleted); an entity for routes that change it."""
    call.resource_id = corpus_id
    if call.gate.action in (Action.CORPORA_WRITE, Action.CORPORA_DELETE):
        return await find_for_change(call.db, corpus_id)
    return await find(call.db, corpus_id)


async def find(work: Work, corpus_id: str) -> CorpusView:
    """The corpus of the transaction's tenant, or not found."""
    row = await work.raw.fetchrow(
        "select tenant_id, id, key, name, visibility, provider_config, space_id, created_by, created_at, updated_at from corpora "
        "where tenant_id = $1 and id = $2 and deleted_at is null",
        work.tenant_id,
        corpus_id,
    )
    if row is None:
        raise not_found("corpus")
    return CorpusView(*row)


async def find_for_change(work: Work, corpus_id: str) -> Corpus:
    """The corpus as an entity, or not found. Until the transaction ends nobody else changes it or adds a document to it."""
    statement = select(Corpus).where(Corpus.tenant_id == work.tenant_id, Corpus.id == corpus_id, Corpus.deleted_at.is_(None))
    corpus: Corpus | None = await work.session.scalar(statement.with_for_update())
    if corpus is None:
        raise not_found("corpus")
    return corpus


async def newest_first(work: Work) -> Sequence[Corpus]:
    statement = (
        select(Corpus)
        .where(Corpus.tenant_id == work.tenant_id, Corpus.deleted_at.is_(None))
        .order_by(Corpus.created_at.desc(), Corpus.id)
        .limit(10_000)
    )
    return (await work.session.scalars(statement)).all()


async def busy_documents(work: Work, corpus: Corpus) -> int:
    """How many of its documents are queued or being processed."""
    count: int = await work.raw.fetchval(
        "select count(*) from documents where tenant_id = $1 and corpus_key = $2 and status in ('queued', 'processing')",
        work.tenant_id,
        corpus.key,
    )
    return count


async def keep_open(work: Work, corpus_id: str) -> int | None:
    """Its key, held against deletion until the transaction ends; None when it is gone."""
    key: int | None = await work.raw.fetchval(
        "select key from corpora where tenant_id = $1 and id = $2 and deleted_at is null for share", work.tenant_id, corpus_id
    )
    return key


async def space_of(work: Work, corpus_key: int) -> tuple[int | None, str | None]:
    """Space and model that the corpus was indexed with, both None while it is empty."""
    row = await work.raw.fetchrow(
        "select c.space_id, s.model from corpora c left join embedding_spaces s on s.id = c.space_id where c.tenant_id = $1 and c.key = $2",
        work.tenant_id,
        corpus_key,
    )
    return (row["space_id"], row["model"]) if row else (None, None)


async def claim_space(work: Work, corpus_key: int, model: str, dimensions: int) -> tuple[int, str]:
    """Record the model of the corpus unless it has one; returns the space and model that it has."""
    space_id = await work.raw.fetchval("select id from embedding_spaces where model = $1 and dimensions = $2", model, dimensions)
    if space_id is None:
        space_id = await work.raw.fetchval("select space_ensure($1, $2)", model, dimensions)
    row = await work.raw.fetchrow(
        "update corpora set space_id = $3 where tenant_id = $1 and key = $2 and space_id is null returning space_id",
        work.tenant_id,
        corpus_key,
        space_id,
    )
    if row is not None:
        return space_id, model
    held, held_model = await space_of(work, corpus_key)
    if held is None or held_model is None:
        raise not_found("corpus")
    return held, held_model


async def remove(work: Work, corpus_key: int) -> None:
    await work.raw.execute("delete from corpora where tenant_id = $1 and key = $2 and deleted_at is not null", work.tenant_id, corpus_key)
