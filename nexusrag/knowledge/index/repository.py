"""All SQL that writes the index."""

import numpy as np
from numpy.typing import NDArray

from nexusrag.infra.database import Work, halfvec
from nexusrag.knowledge.index.models import LANGUAGE, NewVersion

# Chunks in one statement, a multiple of the block of postings: bounded in time and memory however long the document is.
_BATCH = 512
_VERSION = (
    "insert into document_versions (tenant_id, document_id, corpus_key, number, state, sha256, chunk_size_chars, chunk_overlap_chars, "
    "space_id, pages, chars, num_chunks, live_at) select $1, $2, $3, coalesce(max(number), 0) + 1, 'live', $4, $5, $6, $7, $8, $9, $10, "
    "clock_timestamp() from document_versions where tenant_id = $1 and document_id = $2 returning id"
)
# One statement, since each costs as much again on the way: the chunks, and by their ids vectors and postings.
#
# Postings: rows are short enough for an index that holds all of them, so that a query reads a term's postings one after the
# other. The lengths ride along, so that it needs nothing else. An entry is id << 24 | occurrences << 16 | length; the first is at
# most 255 by the nature of tsvector.
_CONTENT = (
    "with given as materialized (select c.*, c.place + $4 - 1 as ord "
    "from unnest($5::text[], $6::text[], $7::text[], $8::int[], $9::int[], $10::int[], $11::int[], $12::bytea[], $13::halfvec[]) "
    "with ordinality as c (text, embedded, heading, start_char, end_char, page, page_end, hash, v, place)), "
    "made as (insert into chunks (tenant_id, version_id, ord, text, heading, start_char, end_char, page, page_end, hash) "
    "select $1, $2, g.ord, g.text, case when g.heading = '' then '{}'::text[] else string_to_array(g.heading, E'\\x1f') end, "
    "g.start_char, g.end_char, g.page, g.page_end, g.hash from given g order by g.ord returning id, ord), "
    "meant as (insert into embeddings (tenant_id, space_id, version_id, chunk_id, v) "
    "select $1, $14, $2, m.id, g.v from made m join given g using (ord)), "
    "lexed as (select m.id, m.ord / $16 as block, to_tsvector($15::regconfig, g.embedded) as lexemes "
    "from made m join given g using (ord)), "
    "terms as (select l.id, l.block, t.lexeme, least(cardinality(t.positions), 255) as tf "
    "from lexed l cross join lateral unnest(l.lexemes) t), "
    "lengths as (select id, least(sum(tf), 65535)::int as len from terms group by id), "
    "put as (insert into postings (tenant_id, corpus_key, version_id, block, term, entries) "
    "select $1, $3, $2, t.block, t.lexeme, array_agg((t.id << 24) | (t.tf << 16) | l.len order by t.id) "
    "from terms t join lengths l using (id) where length(t.lexeme) <= 255 group by t.lexeme, t.block order by t.lexeme, t.block) "
    "update document_versions set num_terms = num_terms + (select coalesce(sum(len), 0) from lengths) where id = $2"
)
_POSTINGS_BLOCK = 128


async def insert(work: Work, version: NewVersion) -> int:
    """Write a version with all that searches read of it; it counts once the document points to it. Returns its id."""
    version_id: int = await work.raw.fetchval(
        _VERSION, work.tenant_id, version.document_id, version.corpus_key, version.sha256, version.chunk_size_chars,
        version.chunk_overlap_chars, version.space_id, version.pages, version.chars, len(version.chunks),
    )  # fmt: skip
    for start in range(0, len(version.chunks), _BATCH):
        chunks = version.chunks[start : start + _BATCH]
        await work.raw.execute(
            _CONTENT,
            work.tenant_id,
            version_id,
            version.corpus_key,
            start,
            [c.text for c in chunks],
            [c.embedded for c in chunks],
            ["\x1f".join(c.heading) for c in chunks],
            [c.start for c in chunks],
            [c.end for c in chunks],
            [c.page for c in chunks],
            [c.page_end for c in chunks],
            [c.hash for c in chunks],
            [halfvec(vector) for vector in version.vectors[start : start + len(chunks)]],
            version.space_id,
            LANGUAGE,
            _POSTINGS_BLOCK,
        )
    return version_id


async def known_vectors(work: Work, document_id: str, space_id: int, hashes: list[bytes]) -> dict[bytes, NDArray[np.float32]]:
    """Vectors that the document's live version has for chunks with these hashes."""
    rows = await work.raw.fetch(
        "select distinct on (c.hash) c.hash, e.v from documents d join chunks c on c.version_id = d.live_version_id "
        "join embeddings e on e.chunk_id = c.id and e.space_id = $3 where d.tenant_id = $1 and d.id = $2 and c.hash = any($4)",
        work.tenant_id,
        document_id,
        space_id,
        hashes,
    )
    return {row["hash"]: row["v"] for row in rows}


async def retire_others(work: Work, document_id: str, version_id: int) -> None:
    """Remove what searches read of the document's other versions; their rows stay as history."""
    old = await work.raw.fetch(
        "update document_versions set state = 'retired', retired_at = clock_timestamp() "
        "where tenant_id = $1 and document_id = $2 and id <> $3 and state <> 'retired' returning id",
        work.tenant_id,
        document_id,
        version_id,
    )
    await _clear(work, [row["id"] for row in old])


async def remove(work: Work, document_ids: list[str]) -> None:
    """Remove all that the index holds of these documents."""
    rows = await work.raw.fetch(
        "select id from document_versions where tenant_id = $1 and document_id = any($2)", work.tenant_id, document_ids
    )
    await _clear(work, [row["id"] for row in rows])


async def _clear(work: Work, version_ids: list[int]) -> None:
    if not version_ids:
        return
    for table in ("postings", "embeddings", "chunks"):
        await work.raw.execute(f"delete from {table} where tenant_id = $1 and version_id = any($2)", work.tenant_id, version_ids)
