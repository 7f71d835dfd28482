"""The best of what one may see, and not what is left of the best: for large and small tenants, and much and little to see.

The same at full size, with real embeddings, is tests/benchmarks/bench_recall.py.
"""

import numpy as np
import pytest

from tests.knowledge.retrieval_recall.conftest import NewLibrary
from tests.knowledge.retrieval_recall.grid import Cell, Grid, Question
from tests.knowledge.retrieval_recall.library import unit

pytestmark = pytest.mark.slow
DIMENSIONS, CHUNKS, PER_DOCUMENT = 32, 4_000, 20
TENANTS, VISIBLE = (0.01, 0.1, 1.0), (0.01, 0.1, 1.0)
TEXTS = [f"bakard doxoft {number}x" for number in range(50)]


@pytest.fixture(scope="module")
async def grid(new_library: NewLibrary) -> Grid:
    """Clusters of near copies, of which both tenants and people have some."""
    library, rng = new_library(DIMENSIONS), np.random.default_rng(11)
    settings = library.servers.with_env(RETRIEVAL_EXACT_LIMIT="100")
    made = Grid(library, settings, VISIBLE)
    centres = unit(rng, 200, DIMENSIONS)
    for share in TENANTS:
        number = round(share * CHUNKS)
        near = centres[rng.integers(0, len(centres), number)] + 0.3 * unit(rng, number, DIMENSIONS)
        await made.plant(share, near.astype(np.float32), TEXTS, PER_DOCUMENT)
    admin = await library.servers.admin()
    await admin.execute(
        "vacuum analyze embeddings, postings, document_versions, documents, document_permissions, corpus_permissions, corpora"
    )
    await admin.close()
    return made


async def test_what_is_found_is_what_a_scan_of_everything_visible_finds(grid: Grid) -> None:
    rng = np.random.default_rng(5)
    questions = [Question("bakard 7x", vector) for vector in unit(rng, 12, DIMENSIONS)]
    methods = set()
    for cell in grid.cells:
        measured = await grid.measure(cell, questions, timed=1)
        methods.add(measured.method)
        assert measured.dense >= 0.99, _named(cell)
        assert measured.hybrid >= 0.99, _named(cell)
    assert len(grid.cells) >= 7
    assert methods == {"exact", "index"}


def _named(cell: Cell) -> str:
    return f"{cell.tenant_share:.2%} of all chunks, of which {cell.visible_share:.2%} are visible: {len(cell.places)} chunks"
