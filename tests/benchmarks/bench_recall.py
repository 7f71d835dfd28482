"""Recall and speed of searches under permissions: tenants with 0.01 % to 100 % of 200,000 chunks, people who see 0.1 % to 100 % of theirs.

Vectors are those of the collections of NEXUSRAG_IR_DIR under the embedding model of an installation out of the box, and slightly
perturbed copies of them. NEXUSRAG_BENCH_CHUNKS takes another number than 200,000.
"""

import os
import re
from collections.abc import AsyncIterator, Iterator
from time import perf_counter

import numpy as np
import pytest

from nexusrag.infra.database import Database
from nexusrag.infra.outbound import Outbound
from nexusrag.knowledge.index.spaces import build_indexes
from nexusrag.providers.embeddings.factory import open_embedder
from tests.benchmarks import quality
from tests.knowledge.retrieval_recall.grid import Grid, Measured, Question
from tests.knowledge.retrieval_recall.library import Library, Vectors
from tests.support.installation import Servers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not quality.DIRECTORY.is_dir(), reason=f"no test collections in {quality.DIRECTORY} (NEXUSRAG_IR_DIR)"),
]
CHUNKS = int(os.environ.get("NEXUSRAG_BENCH_CHUNKS", "200000"))
# The whole first, while the index holds it alone: the others are what comes to it.
TENANTS, VISIBLE = (1.0, 0.1, 0.01, 0.001, 0.0001), (0.001, 0.01, 0.1, 1.0)
COLLECTIONS = ("cranfield", "squad2dev")
_SENTENCE = re.compile(r"(?<=[.?!])\s+|\s+\.\s+")
QUESTIONS, TIMED = 100, 60
WORDS = 40  # of each text: enough for the lexical half of the search to have its share of the work
PERTURBED = 0.2  # length of what is added to a unit vector
RECALL, RATIO = 0.99, 2.0


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    held = Servers()
    yield held
    held.close()


@pytest.fixture(scope="module")
async def library(servers: Servers) -> AsyncIterator[Library]:
    database = Database(servers.settings.stores, pool_size=2)
    yield Library(servers, database, "bench/all-MiniLM-L6-v2", 384)
    await database.close()


async def _embedded(servers: Servers) -> tuple[list[str], Vectors, list[Question]]:
    """Texts with their vectors, and questions: documents whole and by sentence, and what is asked about them but for the questions."""
    settings = servers.with_env(EMBEDDING_PROVIDER="local")
    outbound = Outbound(settings.outbound)
    embedder = open_embedder(settings, outbound)
    texts: dict[str, None] = {}
    asked: list[str] = []
    for name in (name for name in COLLECTIONS if (quality.DIRECTORY / name).is_dir()):
        collection = quality.load(name)
        queries = [query.text for query in collection.queries]
        asked += queries[:: max(1, len(queries) // (QUESTIONS // len(COLLECTIONS)))][: QUESTIONS // len(COLLECTIONS)]
        sentences = [one for text in collection.documents.values() for one in _SENTENCE.split(text) if len(one.split()) >= 5]
        texts |= dict.fromkeys([*collection.documents.values(), *sentences, *queries, *quality.unanswerable(name)])
    apart = set(asked)
    kept = [text for text in texts if text and text not in apart]
    try:
        vectors = np.concatenate([await embedder.embed(kept[start : start + 500]) for start in range(0, len(kept), 500)])
        return kept, vectors, [Question(*pair) for pair in zip(asked, await embedder.embed(asked), strict=True)]
    finally:
        await embedder.close()
        await outbound.close()


def _copies(rng: np.random.Generator, base: Vectors, number: int) -> Vectors:
    """`number` vectors: those of `base` in turn, each copy a little beside its original."""
    made = base[np.arange(number) % len(base)].copy()
    noise = rng.standard_normal(made.shape, np.float32)
    noise *= PERTURBED / np.linalg.norm(noise, axis=1, keepdims=True)
    noise[: len(base)] = 0
    made += noise
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


async def _command(servers: Servers, *commands: str) -> None:
    admin = await servers.admin()
    try:
        for command in commands:
            await admin.execute(command)
    finally:
        await admin.close()


async def test_recall_and_speed_over_the_grid(servers: Servers, library: Library) -> None:
    texts, base, questions = await _embedded(servers)
    words = [" ".join(text.split()[:WORDS]) for text in texts]
    rng = np.random.default_rng(1)
    grid = Grid(library, servers.with_env(), VISIBLE)
    measured: list[Measured] = []
    await _command(servers, "alter database nexusrag set maintenance_work_mem = '1GB'")
    for share in TENANTS:
        number = round(share * CHUNKS)
        began = perf_counter()
        await grid.plant(share, _copies(rng, base, number), words, per_document=50 if number > 10_000 else 5 if number > 100 else 1)
        if share == 1:
            # Filled first and indexed then, as an installation does with a model that comes to many vectors.
            space = grid.cells[0].shelf.space
            await _command(servers, f"drop index if exists embeddings_hnsw_{space}")
            await build_indexes(servers.settings.stores.database_migration_url.get_secret_value())
        await _command(servers, "vacuum analyze")
        print(f"\n{number:,} chunks written and indexed in {perf_counter() - began:.0f} s", flush=True)
        for cell in grid.cells[len(measured) :]:
            measured.append(await grid.measure(cell, questions, TIMED))
            print(_line(measured[-1]), flush=True)
    assert min(one.dense for one in measured) >= RECALL
    assert min(one.hybrid for one in measured) >= RECALL
    assert max(one.ratio for one in measured) <= RATIO


def _line(one: Measured) -> str:
    cell = one.cell
    return (
        f"tenant {cell.tenant_share:8.2%}  visible {cell.visible_share:7.2%} = {len(cell.places):7,} chunks  {one.method:11}  "
        f"recall@10 {one.dense:.4f}  of the hybrid {one.hybrid:.4f}  p95 {one.p95_ms:6.1f} ms, {one.ratio:4.2f} times without permissions"
    )
