"""Where much is visible, the HNSW index gives the vectors: it is used, it finds nearly all, and small shares do not starve."""

import re
from copy import copy
from dataclasses import dataclass

import numpy as np
import pytest

from nexusrag.infra.database import halfvec
from nexusrag.kernel.actions import Permission
from nexusrag.kernel.principal import Principal
from nexusrag.knowledge.retrieval import repository
from nexusrag.knowledge.visibility import rule
from tests.knowledge.retrieval_recall.conftest import NewLibrary
from tests.knowledge.retrieval_recall.library import Item, Library, Shelf, Vectors, bound, caller, owner, unit

pytestmark = pytest.mark.slow

DIMENSIONS = 32
PER_DOCUMENT = 25
QUESTIONS = 20
QUESTION = "bakard 20x3 40x1"
SCAN = 1_000_000
INDEX = 0
TABLES = ("embeddings", "postings", "document_versions", "documents", "document_permissions", "corpora")

# What PostgreSQL knows of a table that was never analysed.
FORGET = (
    "delete from pg_statistic where starelid = '{table}'::regclass; "
    "update pg_class set reltuples = -1, relpages = 0, relallvisible = 0 where oid = '{table}'::regclass"
)


@dataclass(frozen=True, slots=True)
class Crowd:
    """A corpus of 5,000 chunks, of which alice sees 1 % and bob 10 %, and a small tenant with 50 in the same index."""

    library: Library
    shelf: Shelf
    small: Shelf
    questions: Vectors


@pytest.fixture(scope="module")
async def crowd(new_library: NewLibrary) -> Crowd:
    library, rng = new_library(DIMENSIONS), np.random.default_rng(7)
    shelf = await library.shelf(await library.tenant())
    await library.put(shelf, [_item(rng, number) for number in range(200)])
    small = await library.shelf(await library.tenant(), "tenant")
    await library.put(small, [_item(rng, number) for number in range(2)])
    await _as_admin(library, f"vacuum analyze {', '.join(TABLES)}")
    return Crowd(library, shelf, small, unit(rng, QUESTIONS, DIMENSIONS))


def _item(rng: np.random.Generator, number: int) -> Item:
    readers = ["everyone", *(["alice"] if number % 100 == 0 else []), *(["bob"] if number % 10 == 0 else [])]
    texts = [f"bakard {number}x{ord}" for ord in range(PER_DOCUMENT)]
    return Item(f"doc-{number}", texts, unit(rng, PER_DOCUMENT, DIMENSIONS), grants=[owner(reader) for reader in readers])


async def _recall(crowd: Crowd, shelf: Shelf, who: Principal, depth: int) -> float:
    """Share of the nearest `depth` that the index finds."""
    found = due = 0
    for vector in crowd.questions:
        exact, index = [
            await crowd.library.search(shelf, who, "", vector, depth, mode="dense", RETRIEVAL_EXACT_LIMIT=limit) for limit in (SCAN, INDEX)
        ]
        assert (exact.method, exact.complete, index.method, index.complete) == ("exact", True, "index", False)
        due += len(exact.passages)
        found += len({one.chunk_id for one in exact.passages} & {one.chunk_id for one in index.passages})
    assert due == depth * len(crowd.questions)
    return found / due


@pytest.mark.parametrize("user", ["everyone", "bob", "alice"])
async def test_the_index_finds_nearly_all_that_an_exact_scan_finds(crowd: Crowd, user: str) -> None:
    assert await _recall(crowd, crowd.shelf, caller(crowd.shelf.tenant, user), 10) >= 0.95


async def test_a_small_share_is_found_whole_and_not_next_to_nothing(crowd: Crowd) -> None:
    assert await _recall(crowd, crowd.shelf, caller(crowd.shelf.tenant, "alice"), 50) >= 0.95
    assert await _recall(crowd, crowd.small, caller(crowd.small.tenant, "anyone"), 50) >= 0.95


async def test_both_arms_give_the_same_scores(crowd: Crowd) -> None:
    who = caller(crowd.shelf.tenant, "bob")
    exact, index = [
        await crowd.library.search(crowd.shelf, who, "bakard 20x3", crowd.questions[0], 10, RETRIEVAL_EXACT_LIMIT=limit)
        for limit in (SCAN, INDEX)
    ]
    assert [passage.chunk_id for passage in index.passages] == [passage.chunk_id for passage in exact.passages]
    assert [passage.cosine for passage in index.passages] == pytest.approx([passage.cosine for passage in exact.passages])


async def test_the_plan_of_each_arm(crowd: Crowd) -> None:
    """Only the plan tells: an ordinary scan under a filter gives the same rows, at a cost that grows with all tenants' chunks."""
    scan, index = await _ran(crowd, SCAN), await _ran(crowd, INDEX)
    name = f"embeddings_hnsw_{crowd.shelf.space}"
    assert re.search(rf"Index Scan using {name}", index) and not re.search(rf"{name}.*never executed", index)
    assert re.search(rf"{name}.*never executed", scan) and "Seq Scan on embeddings" not in scan


async def test_the_plan_holds_before_statistics_exist(crowd: Crowd) -> None:
    """A plan made for empty tables read all postings once per document: seven hundred milliseconds for as many documents."""
    await _as_admin(crowd.library, *(FORGET.format(table=table) for table in TABLES))
    try:
        for exact_limit in (SCAN, INDEX):
            plan = await _ran(crowd, exact_limit)
            read = re.findall(r"Scan using postings\w* .*loops=(\d+)", plan)
            assert read and all(int(times) <= len(QUESTION.split()) for times in read), plan
            assert not re.search(r"CTE Scan on live\w* .*loops=\d{2,}", plan), plan
    finally:
        await _as_admin(crowd.library, f"vacuum analyze {', '.join(TABLES)}")


async def _as_admin(library: Library, *commands: str) -> None:
    admin = await library.servers.admin()
    try:
        for command in commands:
            await admin.execute(command)
    finally:
        await admin.close()


async def _ran(crowd: Crowd, exact_limit: int) -> str:
    """The executed plan."""
    library = crowd.library
    settings = library.servers.with_env()
    reading = rule(bound(caller(crowd.shelf.tenant, "everyone")), Permission.READ)
    plan = copy(
        repository.search("hybrid", reading.shape, settings.retrieval.retrieval_candidates, exact_limit, crowd.shelf.space, DIMENSIONS)
    )
    plan.sql = f"explain (analyze, timing off) {plan.sql}"
    given = {
        "question": QUESTION,
        "vector": halfvec(crowd.questions[0]),
        "corpus_key": crowd.shelf.key,
        "tenant_id": crowd.shelf.tenant,
        "top_k": 10,
        "filters": None,
        "document_ids": None,
        **reading.values,
    }
    async with library.database.work(crowd.shelf.tenant, options=repository.options(settings)) as work:
        return "\n".join(row[0] for row in await plan.fetch(work, given))
