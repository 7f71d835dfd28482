"""The HNSW index of each embedding space, built while work goes on.

`nexusrag migrate` and `up` call this with the login that owns the tables: CREATE INDEX CONCURRENTLY runs in no transaction,
hence in no function that the application's role could be given.
"""

from typing import Any

import asyncpg

from nexusrag.infra.migrate import SYSTEM_ROLE
from nexusrag.infra.urls import connect_arguments

_LOCK = 0x6E65786964  # "nexid": one builder at a time
# An index that is there and not valid is what a builder that died has left: whoever holds the lock knows that nobody is at it.
_MISSING = (
    "select s.id, s.model, s.dimensions, i.indexrelid is not null as broken from embedding_spaces s "
    "left join pg_index i on i.indexrelid = to_regclass('public.embeddings_hnsw_' || s.id) "
    "where i.indisvalid is not true order by s.id"
)


async def missing(connection: "asyncpg.Connection[Any]") -> list[str]:
    """Models whose space has no index yet."""
    return [row["model"] for row in await connection.fetch(_MISSING)]


async def build_indexes(url: str) -> list[str]:
    """Build what is missing with the owner's login at `url`; the models whose index was built. None while another process is at it.

    Nobody is locked out, but running transactions are waited for. May be ended at any time and called again.
    """
    connection = await asyncpg.connect(**connect_arguments(url), timeout=10)
    built = []
    try:
        if await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
            await connection.execute(f"set role {SYSTEM_ROLE}")
            for space in await connection.fetch(_MISSING):
                await _build(connection, space)
                built.append(space["model"])
    finally:
        await connection.close(timeout=5)
    return built


async def _build(connection: "asyncpg.Connection[Any]", space: Any) -> None:
    name = f"embeddings_hnsw_{space['id']}"
    if space["broken"]:
        await connection.execute(f"drop index concurrently {name}")
    # As space_ensure makes it (alembic/versions/0003_spaces.sql).
    await connection.execute(
        f"create index concurrently {name} on embeddings using hnsw ((v::halfvec({space['dimensions']})) halfvec_cosine_ops) "
        f"with (m = 16, ef_construction = 64) where space_id = {space['id']}"
    )
