"""The hybrid search, one statement: BM25 and vectors over what is visible, fused by score, with the exact cosine of every candidate.

Tenant, corpus, visibility and filters stand inside, never after. Where little is visible, vectors are scanned exactly; where
much is, the HNSW index is walked until enough visible ones were found. BM25 statistics cover the corpus as a whole.
"""

from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Select, Text, TextClause, and_, any_, bindparam, case, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from nexusrag.infra.statements import Prepared
from nexusrag.knowledge.documents.facade import Document
from nexusrag.knowledge.index.facade import LANGUAGE, DocumentVersion
from nexusrag.knowledge.visibility import visible_to_caller
from nexusrag.settings import Settings

# k1 and b of BM25 (Robertson), in the form of findings: 2.2 = k1 + 1, 1.2 = k1, 0.75 = b.
_SEARCH = """
select * from (
with stat as (
    select coalesce(sum(num_chunks), 0)::float8 as n, coalesce(sum(num_terms), 0)::float8 / greatest(sum(num_chunks), 1) as avgl,
           coalesce(sum(num_chunks) filter (where visible), 0)::bigint as seen
    from live
), query as (
    select lexeme as term, cardinality(positions) as qtf from unnest(to_tsvector('{language}', cast(:question as text)))
), hits as materialized (
    select q.term, q.qtf, p.version_id, p.chunk_ids, p.tfs, p.lens
    from query q cross join lateral (
        select x.version_id, x.chunk_ids, x.tfs, x.lens from postings x
        where x.corpus_key = cast(:corpus_key as bigint) and x.term = q.term and x.tenant_id = cast(:tenant_id as text)
    ) p join live l on l.version_id = p.version_id
), frequency as (
    select term, sum(cardinality(chunk_ids))::float8 as df from hits group by term
), lexical as materialized (
    select u.chunk_id,
           sum(h.qtf * ln(1 + (s.n - f.df + 0.5) / (f.df + 0.5)) * u.tf * 2.2 / (u.tf + 1.2 * (0.25 + 0.75 * u.len / s.avgl))) as bm25
    from stat s cross join hits h join frequency f on f.term = h.term join live l on l.version_id = h.version_id and l.visible
         cross join lateral unnest(h.chunk_ids, h.tfs, h.lens) as u (chunk_id, tf, len)
    group by u.chunk_id order by bm25 desc, u.chunk_id limit {candidates}
), exact as (
    select e.chunk_id
    from live l join embeddings e on e.version_id = l.version_id and e.space_id = {space}
    where l.visible and (select seen from stat) <= {exact_limit}
    order by (cast(e.v as halfvec({dimensions})) <=> cast(:vector as halfvec({dimensions}))) + 0, e.chunk_id limit {candidates}
), approximate as (
    select e.chunk_id from embeddings e
    where e.space_id = {space} and e.tenant_id = cast(:tenant_id as text) and (select seen from stat) > {exact_limit}
      -- inside a CASE the list stays a hashed lookup, so that the index keeps giving the order
      and case when e.version_id in (select version_id from live where visible) then true else false end
    order by cast(e.v as halfvec({dimensions})) <=> cast(:vector as halfvec({dimensions})) limit {candidates}
), candidates as materialized (
    select c.chunk_id, max(c.bm25) as bm25 from (
        select chunk_id, bm25 from lexical
        union all select chunk_id, null from exact
        union all select chunk_id, null from approximate
    ) c group by c.chunk_id
), measured as (
    select c.chunk_id, e.version_id, coalesce(c.bm25, 0)::float8 as bm25,
           1 - (cast(e.v as halfvec({dimensions})) <=> cast(:vector as halfvec({dimensions}))) as cosine
    from candidates c join embeddings e on e.chunk_id = c.chunk_id and e.space_id = {space}
), spread as (
    select min(bm25) as bm25_low, max(bm25) - min(bm25) as bm25_range,
           min(cosine) as cosine_low, max(cosine) - min(cosine) as cosine_range from measured
), ranked as (
    select m.*, {score} as score
    from measured m cross join spread s order by score desc, m.chunk_id limit cast(:top_k as integer)
)
select r.chunk_id, r.score, r.bm25, r.cosine, c.ord, c.text, c.heading, c.start_char, c.end_char, c.page, c.page_end, c.hash,
       l.document_id, l.filename, l.labels, l.version_number, (select seen from stat) as seen
from ranked r join chunks c on c.id = r.chunk_id join live l on l.version_id = r.version_id
order by r.score desc, r.chunk_id
) found
"""
_SCORES = {
    # Where all candidates are equal, each counts in full if it scores at all.
    "hybrid": "0.5 * case when s.bm25_range > 1e-9 then (m.bm25 - s.bm25_low) / s.bm25_range else (m.bm25 > 0)::int end "
    "+ 0.5 * case when s.cosine_range > 1e-9 then (m.cosine - s.cosine_low) / s.cosine_range else (m.cosine > 0)::int end",
    "lexical": "m.bm25",
    "dense": "m.cosine",
}


def options(settings: Settings) -> dict[str, str]:
    """Settings of the transaction that runs the statement."""
    return {
        "hnsw.ef_search": str(settings.retrieval.retrieval_hnsw_ef_search),
        # Without iteration a filtered index scan silently returns next to nothing for a small tenant.
        "hnsw.iterative_scan": "relaxed_order",
        "hnsw.max_scan_tuples": "200000",
    }


@lru_cache(maxsize=256)
def search(mode: str, bypass: bool, candidates: int, exact_limit: int, space_id: int, dimensions: int) -> Prepared:
    """The statement.

    Parameters: tenant_id, corpus_key, question, vector, top_k, filters (JSON text or None), document_ids (or None), and `caller`.
    """
    live = _live(bypass).cte("live").prefix_with("MATERIALIZED")
    return Prepared(_text(mode, candidates, exact_limit, space_id, dimensions).columns().add_cte(live))


def _text(mode: str, candidates: int, exact_limit: int, space_id: int, dimensions: int) -> TextClause:
    # Numbers of ours, never of a client: the planner must see them to use the partial index.
    return text(
        _SEARCH.format(
            language=LANGUAGE,
            candidates=int(candidates),
            exact_limit=int(exact_limit),
            space=int(space_id),
            dimensions=int(dimensions),
            score=_SCORES[mode],
        )
    )


def _live(bypass: bool) -> Select[Any]:
    """Live versions of the corpus, each with whether this caller may see it and the filters admit it."""
    tenant_id, corpus_key = bindparam("tenant_id", type_=Text), bindparam("corpus_key", type_=BigInteger)
    document_ids = bindparam("document_ids", type_=ARRAY(Text))
    admitted = and_(visible_to_caller(bypass), or_(document_ids.is_(None), Document.id == any_(document_ids)), text(_FILTERS))
    return (
        select(
            DocumentVersion.id.label("version_id"),
            DocumentVersion.num_chunks,
            DocumentVersion.num_terms,
            DocumentVersion.number.label("version_number"),
            Document.id.label("document_id"),
            Document.filename,
            Document.labels.label("labels"),
            case((admitted, True), else_=False).label("visible"),
        )
        .join(DocumentVersion, DocumentVersion.id == Document.live_version_id)
        .where(Document.tenant_id == tenant_id, DocumentVersion.tenant_id == tenant_id, Document.corpus_key == corpus_key)
    )


# Each key of the filters has a list of values, of which the document's metadata must hold one.
_FILTERS = (
    "(cast(:filters as jsonb) is null or not exists (select 1 from jsonb_each(cast(:filters as jsonb)) as f (key, choice) "
    "where not exists (select 1 from jsonb_array_elements(f.choice) as v (value) "
    "where documents.metadata @> jsonb_build_object(f.key, v.value))))"
)
