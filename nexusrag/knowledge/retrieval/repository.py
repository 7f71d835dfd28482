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
from nexusrag.knowledge.visibility import Shape, condition
from nexusrag.settings import Settings

# BM25 with k1 = 1.2 and b = 0.75 (Robertson): 2.2 = k1 + 1, 0.3 = k1 (1 - b), 0.9 = k1 b.
#
# No step is left to what the planner believes about sizes, which is far off for minutes after a large ingestion and then costs a
# hundred times as much: `offset 0` and the window keep each lateral one index lookup per row, lists inside a CASE stay hashed.
_SEARCH = """
select * from (
with stat as materialized (
    select coalesce(sum(num_chunks), 0)::float8 as n, 0.9 * sum(num_chunks)::float8 / greatest(sum(num_terms), 1) as slope,
           coalesce(sum(num_chunks) filter (where visible), 0)::bigint as seen
    from live
), query as (
    select lexeme as term, cardinality(positions) as qtf from unnest(to_tsvector('{language}', cast(:question as text)))
), lexical as materialized (
    select chunk_id, sum(weight * tf / (tf + 0.3::float8 + slope * len)) as bm25
    from (
        select weight, slope, entry >> 24 as chunk_id, (entry >> 16) & 255 as tf, entry & 65535 as len
        from (
            select 2.2::float8 * q.qtf * ln(1 + (s.n - p.df + 0.5) / (p.df + 0.5)) as weight, s.slope, unnest(p.entries) as entry
            from stat s cross join query q cross join lateral (
                select x.entries, sum(cardinality(x.entries)) over ()::float8 as df,
                       case when x.version_id in (select version_id from live where visible) then true else false end as visible
                from postings x
                where x.corpus_key = cast(:corpus_key as bigint) and x.term = q.term and x.tenant_id = cast(:tenant_id as text)
                  and case when x.version_id in (select version_id from live) then true else false end
            ) p where p.visible
        ) unpacked
    ) u
    group by chunk_id order by bm25 desc, chunk_id limit {candidates}
), exact as (
    select e.chunk_id
    from live l cross join lateral (
        select x.chunk_id, cast(x.v as halfvec({dimensions})) <=> cast(:vector as halfvec({dimensions})) as distance from embeddings x
        where x.version_id = l.version_id and x.space_id = {space} and x.tenant_id = cast(:tenant_id as text) offset 0
    ) e
    where l.visible and (select seen from stat) <= {exact_limit}
    order by e.distance, e.chunk_id limit {candidates}
), approximate as (
    select x.chunk_id from embeddings x
    where x.space_id = {space} and x.tenant_id = cast(:tenant_id as text) and (select seen from stat) > {exact_limit}
      and case when x.version_id in (select version_id from live where visible) then true else false end
    order by cast(x.v as halfvec({dimensions})) <=> cast(:vector as halfvec({dimensions})) limit {candidates}
), candidates as (
    select chunk_id, max(bm25) as bm25 from (
        select chunk_id, bm25 from lexical
        union all select chunk_id, 0 from exact
        union all select chunk_id, 0 from approximate
    ) c group by chunk_id
), measured as (
    select c.chunk_id, e.version_id, c.bm25, e.cosine,
           min(c.bm25) over () as bm25_low, max(c.bm25) over () - min(c.bm25) over () as bm25_range,
           min(e.cosine) over () as cosine_low, max(e.cosine) over () - min(e.cosine) over () as cosine_range
    from candidates c cross join lateral (
        select x.version_id, 1 - (cast(x.v as halfvec({dimensions})) <=> cast(:vector as halfvec({dimensions}))) as cosine from embeddings x
        where x.chunk_id = c.chunk_id and x.space_id = {space} and x.tenant_id = cast(:tenant_id as text) offset 0
    ) e
), ranked as (
    select *, {score} as score from measured order by score desc, chunk_id limit cast(:top_k as integer)
)
select r.chunk_id, r.score, r.bm25, r.cosine, c.ord, c.text, c.heading, c.start_char, c.end_char, c.page, c.page_end, c.hash,
       d.document_id, d.filename, d.labels, d.version_number, (select seen from stat) as seen
from ranked r cross join lateral (
    select * from chunks x where x.id = r.chunk_id and x.tenant_id = cast(:tenant_id as text) offset 0
) c cross join lateral (
    select y.id as document_id, y.filename, y.metadata as labels, x.number as version_number
    from document_versions x join documents y on y.tenant_id = x.tenant_id and y.id = x.document_id
    where x.id = r.version_id and x.tenant_id = cast(:tenant_id as text) offset 0
) d
order by r.score desc, r.chunk_id
) found
"""
WITHOUT_INDEX = 2**62  # the limit of a space whose index is not built yet: all that is visible is scanned exactly
_SCORES = {
    # Where all candidates are equal, each counts in full if it scores at all.
    "hybrid": "0.5 * case when bm25_range > 1e-9 then (bm25 - bm25_low) / bm25_range else (bm25 > 0)::int end "
    "+ 0.5 * case when cosine_range > 1e-9 then (cosine - cosine_low) / cosine_range else (cosine > 0)::int end",
    "lexical": "bm25",
    "dense": "cosine",
}


def options(settings: Settings) -> dict[str, str]:
    """Settings of the transaction that runs the statement."""
    return {
        "hnsw.ef_search": str(settings.retrieval.retrieval_hnsw_ef_search),
        # Without iteration a filtered index scan silently returns next to nothing for a small tenant.
        "hnsw.iterative_scan": "relaxed_order",
        "hnsw.max_scan_tuples": "200000",
        # A multiple of work_mem. With the default the scan gives up after 25,000 tuples, however many it may look at.
        "hnsw.scan_mem_multiplier": "8",
        # Pages are cached or on flash. With the default of 4 the planner would sooner sort all vectors of a space than walk its index.
        "random_page_cost": "1.1",
    }


@lru_cache(maxsize=512)
def search(mode: str, shape: Shape, candidates: int, exact_limit: int, space_id: int, dimensions: int) -> Prepared:
    """The statement.

    Parameters: tenant_id, corpus_key, question, vector, top_k, filters (JSON text or None), document_ids (or None), and the values
    of the rule.
    """
    live = _live(shape).cte("live").prefix_with("MATERIALIZED")
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


def _live(shape: Shape) -> Select[Any]:
    """Live versions of the corpus, each with whether this caller may see it and the filters admit it."""
    tenant_id, corpus_key = bindparam("tenant_id", type_=Text), bindparam("corpus_key", type_=BigInteger)
    document_ids = bindparam("document_ids", type_=ARRAY(Text))
    admitted = and_(condition(shape), or_(document_ids.is_(None), Document.id == any_(document_ids)), text(_FILTERS))
    return (
        select(
            DocumentVersion.id.label("version_id"),
            DocumentVersion.num_chunks,
            DocumentVersion.num_terms,
            case((admitted, True), else_=False).label("visible"),
        )
        .select_from(Document)  # which no column names where a policy denies everything
        .join(DocumentVersion, DocumentVersion.id == Document.live_version_id)
        .where(
            Document.tenant_id == tenant_id,
            Document.corpus_key == corpus_key,
            Document.live_version_id.is_not(None),
            DocumentVersion.tenant_id == tenant_id,
            DocumentVersion.corpus_key == corpus_key,
            DocumentVersion.state == "live",
        )
    )


# Each key of the filters has a list of values, of which the document's metadata must hold one.
_FILTERS = (
    "(cast(:filters as jsonb) is null or not exists (select 1 from jsonb_each(cast(:filters as jsonb)) as f (key, choice) "
    "where not exists (select 1 from jsonb_array_elements(f.choice) as v (value) "
    "where documents.metadata @> jsonb_build_object(f.key, v.value))))"
)
