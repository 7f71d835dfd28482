"""The statement gives what a naive search in Python gives: scores, order, visibility, filters, limits."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from nexusrag.kernel.actions import Action, Role
from nexusrag.knowledge.retrieval.service import Passage
from tests.knowledge.retrieval_recall import reference
from tests.knowledge.retrieval_recall.conftest import NewLibrary
from tests.knowledge.retrieval_recall.library import Grant, Item, Library, Shelf, Vectors, caller, owner, unit

DIMENSIONS = 24
# Fewer than the chunks of a corpus, so that both lists are cut.
CANDIDATES = 10
# Half-precision vectors are multiplied in single precision.
CLOSE = 2e-4
# English leaves these words as they are.
WORDS = [start + end for start in ("bak", "dox", "fip", "gum", "hok", "jux") for end in ("ard", "oft", "ump", "ix", "erm", "ilk")]
GRANTS = (
    owner("alice"),
    owner("bob"),
    Grant("user", "alice", "read", hours=1),
    Grant("user", "alice", "read", hours=-1),
    Grant("user", "alice", "write"),
    Grant("api_key", "alice-key", "read"),
    Grant("api_key", "bob-key", "read"),
    Grant("role", "reader", "read"),
    Grant("role", "editor", "read"),
    Grant("group", "alice", "read"),
)
ALICE_READS = {
    ("user", "alice", "owner"), ("user", "alice", "read"), ("api_key", "alice-key", "read"), ("role", "reader", "read")
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stock:
    library: Library
    shelf: Shelf
    items: list[Item]
    random: random.Random
    rng: np.random.Generator

    def question(self) -> str:
        # Some words twice, and one that no document holds.
        return " ".join([*self.random.choices(WORDS, k=self.random.randint(1, 6)), "zyxump"])

    def vector(self) -> Vectors:
        vector: Vectors = unit(self.rng, 1, DIMENSIONS)[0]
        return vector


async def _stock(library: Library, seed: int, visibility: str = "restricted") -> Stock:
    chosen, rng = random.Random(seed), np.random.default_rng(seed)
    shelf = await library.shelf(await library.tenant(), visibility)
    stock = Stock(library, shelf, _items(chosen, rng, "doc"), chosen, rng)
    await library.put(shelf, stock.items)
    # Neighbours whose statistics and chunks must play no part: another corpus of the tenant, and another tenant with the same ids.
    await library.put(await library.shelf(shelf.tenant, "tenant"), _items(chosen, rng, "near"))
    await library.put(await library.shelf(await library.tenant(), "tenant"), _items(chosen, rng, "doc"))
    return stock


def _items(chosen: random.Random, rng: np.random.Generator, prefix: str) -> list[Item]:
    items: list[Item] = []
    common = chosen.sample(WORDS, 12)
    for number in range(chosen.randint(8, 16)):
        size = chosen.randint(1, 4)
        texts = [" ".join(chosen.choices(common, k=chosen.randint(1, 30))) for _ in range(size)]
        labels = {"lang": chosen.choice(["en", "de"]), "year": chosen.randint(2020, 2023)}
        grants = chosen.sample(GRANTS, chosen.randint(0, 2))
        if chosen.random() < 0.2 and items:  # a copy: its scores tie with the original's
            size, texts, vectors = len(items[-1].texts), list(items[-1].texts), items[-1].vectors
        else:
            vectors = unit(rng, size, DIMENSIONS)
        items.append(Item(f"{prefix}-{number}", texts, vectors, labels, _distinct(grants)))
    return items


def _distinct(grants: Sequence[Grant]) -> list[Grant]:
    return list({(grant.kind, grant.who, grant.permission): grant for grant in grants}.values())


def _alice_reads(item: Item) -> bool:
    return any((grant.kind, grant.who, grant.permission) in ALICE_READS and (grant.hours or 1) > 0 for grant in item.grants)


def _everything(item: Item) -> bool:
    return True


async def _compare(
    stock: Stock, visible: Callable[[Item], bool], *, top_k: int = 2 * CANDIDATES, filters: dict[str, object] | None = None,
    document_ids: list[str] | None = None,
) -> list[Passage]:  # fmt: skip
    question, vector = stock.question(), stock.vector()
    alice = caller(stock.shelf.tenant, "alice", Role.READER, "alice-key")
    found = await stock.library.search(
        stock.shelf, alice, question, vector, top_k, filters=filters, document_ids=document_ids, RETRIEVAL_CANDIDATES=CANDIDATES
    )
    expected, _, _ = reference.search(stock.items, visible, question.split(), vector, CANDIDATES)
    by_place = {one.at: one for one in expected}
    assert len(found.passages) == min(top_k, len(expected))
    for passage, due in zip(found.passages, expected, strict=False):
        mine = by_place[passage.document_id, passage.ord]
        assert (passage.score, passage.bm25, passage.cosine) == pytest.approx((mine.score, mine.bm25, mine.cosine), abs=CLOSE)
        assert passage.score == pytest.approx(due.score, abs=CLOSE)  # the same place, or tied with what stands there
    assert len({passage.chunk_id for passage in found.passages}) == len(found.passages)
    return found.passages


@pytest.fixture(scope="session")
def library(new_library: NewLibrary) -> Library:
    return new_library(DIMENSIONS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
async def test_scores_and_order_are_those_of_the_reference(library: Library, seed: int) -> None:
    stock = await _stock(library, seed)
    filters: list[tuple[dict[str, object], Callable[[Item], bool]]] = [
        ({"lang": "en"}, lambda item: item.labels["lang"] == "en"),
        ({"year": [2020, 2022]}, lambda item: item.labels["year"] in (2020, 2022)),
        ({"lang": "de", "year": 2021}, lambda item: item.labels["lang"] == "de" and item.labels["year"] == 2021),
        ({"lang": "fr"}, lambda item: False),
        ({"missing": True}, lambda item: False),
    ]
    for _ in range(3):
        await _compare(stock, _alice_reads)
        await _compare(stock, _alice_reads, top_k=3)
        for chosen, matches in filters:
            await _compare(stock, lambda item, matches=matches: matches(item) and _alice_reads(item), filters=chosen)  # type: ignore[misc]
        ids = stock.random.sample([item.id for item in stock.items], 3)
        await _compare(stock, lambda item, ids=ids: item.id in ids and _alice_reads(item), document_ids=ids)  # type: ignore[misc]


async def test_a_document_of_very_many_chunks_is_searched_whole(library: Library) -> None:
    """Its postings take several rows per word."""
    chosen, rng = random.Random(9), np.random.default_rng(9)
    texts = [" ".join(chosen.choices(WORDS[:8], k=chosen.randint(1, 20))) for _ in range(300)]
    items = [Item("long", texts, unit(rng, len(texts), DIMENSIONS)), Item("short", texts[:2], unit(rng, 2, DIMENSIONS))]
    stock = Stock(library, await library.shelf(await library.tenant(), "tenant"), items, chosen, rng)
    await library.put(stock.shelf, items)
    for _ in range(5):
        await _compare(stock, _everything)


async def test_a_word_repeated_beyond_what_an_entry_holds_still_counts_most(library: Library) -> None:
    shelf = await library.shelf(await library.tenant(), "tenant")
    vectors = unit(np.random.default_rng(4), 2, DIMENSIONS)
    await library.put(shelf, [Item("loud", ["bakard " * 2000], vectors[:1]), Item("calm", ["bakard doxoft"], vectors[1:])])
    found = await library.search(shelf, caller(shelf.tenant, "x"), "bakard", vectors[1], mode="lexical")
    assert [passage.document_id for passage in found.passages] == ["loud", "calm"]


async def test_a_corpus_open_to_the_tenant_is_searched_whole(library: Library) -> None:
    stock = await _stock(library, 100, "tenant")
    for _ in range(5):
        assert len(await _compare(stock, _everything)) >= CANDIDATES


async def test_a_grant_on_one_document_opens_that_one_alone(library: Library) -> None:
    shelf = await library.shelf(await library.tenant())
    vectors = unit(np.random.default_rng(6), 2, DIMENSIONS)
    mine, other = (Item(name, ["bakard"], vectors[place : place + 1], grants=[owner(name)]) for place, name in enumerate(("alice", "bob")))
    await library.put(shelf, [mine, other])
    found = await library.search(shelf, caller(shelf.tenant, "alice"), "bakard", vectors[1])
    assert [passage.document_id for passage in found.passages] == ["alice"]


async def test_nobody_without_a_grant_finds_anything(library: Library) -> None:
    stock = await _stock(library, 101)
    # Of no built-in role: they may search, and nothing else that readers may.
    stranger = replace(caller(stock.shelf.tenant, "carol"), actions=frozenset({Action.CORPORA_SEARCH}))
    found = await library.search(stock.shelf, stranger, stock.question(), stock.vector())
    assert (found.passages, found.complete) == ([], True)


async def test_another_tenant_finds_nothing_even_with_the_key_of_the_corpus(library: Library) -> None:
    stock = await _stock(library, 102, "tenant")
    thief = caller(await library.tenant(), "alice", Role.ADMIN)
    for limit in (0, 5000):
        found = await library.search(stock.shelf, thief, stock.question(), stock.vector(), RETRIEVAL_EXACT_LIMIT=limit)
        assert found.passages == []


async def test_invisible_documents_count_in_the_statistics_and_nowhere_else(library: Library) -> None:
    """Documented: a caller's BM25 scores depend on the whole corpus, so that they need not be counted anew for each caller."""
    shelf = await library.shelf(await library.tenant())
    vectors = unit(np.random.default_rng(1), 6, DIMENSIONS)
    mine = Item("mine", ["bakard doxoft"], vectors[:1], grants=[owner("alice")])
    hidden = Item("hidden", ["bakard"] * 5, vectors[1:], grants=[owner("bob")])
    alice = caller(shelf.tenant, "alice")
    await library.put(shelf, [mine])
    alone = await library.search(shelf, alice, "bakard", vectors[0])
    await library.put(shelf, [hidden])
    crowded = await library.search(shelf, alice, "bakard", vectors[0])
    assert [passage.document_id for passage in crowded.passages] == ["mine"] == [passage.document_id for passage in alone.passages]
    assert crowded.passages[0].bm25 < alone.passages[0].bm25


async def test_words_are_stemmed_and_stop_words_ignored(library: Library) -> None:
    shelf = await library.shelf(await library.tenant(), "tenant")
    vectors = unit(np.random.default_rng(2), 2, DIMENSIONS)
    await library.put(
        shelf, [Item("runner", ["He was running to the stations"], vectors[:1]), Item("other", ["The cat is on the mat"], vectors[1:])]
    )
    found = await library.search(shelf, caller(shelf.tenant, "x"), "Where do the RUNS to a station go?", vectors[1], mode="lexical")
    assert {passage.document_id: passage.bm25 > 0 for passage in found.passages} == {"runner": True, "other": False}


@pytest.mark.parametrize("question", ["the of and", "?!", "\u00ad", "& | ! <-> :*", "';--", "x" * 3000, "word " * 4000, "%_\\"])
async def test_a_question_without_a_word_of_the_corpus_is_answered_by_meaning_alone(library: Library, question: str) -> None:
    shelf = await library.shelf(await library.tenant(), "tenant")
    vectors = unit(np.random.default_rng(3), 3, DIMENSIONS)
    await library.put(shelf, [Item(f"doc-{place}", ["bakard doxoft"], vectors[place : place + 1]) for place in range(3)])
    found = await library.search(shelf, caller(shelf.tenant, "x"), question, vectors[1])
    assert found.passages[0].document_id == "doc-1"
    assert {passage.bm25 for passage in found.passages} == {0.0}


async def test_lexical_and_dense_alone_are_the_parts_of_the_hybrid(library: Library) -> None:
    stock = await _stock(library, 103, "tenant")
    question, vector = stock.question(), stock.vector()
    _, by_words, by_meaning = reference.search(stock.items, _everything, question.split(), vector, CANDIDATES)
    for mode, listed in (("lexical", by_words), ("dense", by_meaning)):
        found = await library.search(
            stock.shelf, caller(stock.shelf.tenant, "x"), question, vector, len(listed), mode=mode, RETRIEVAL_CANDIDATES=CANDIDATES
        )
        scores = [passage.score for passage in found.passages]
        assert scores == sorted(scores, reverse=True)
        assert len({(passage.document_id, passage.ord) for passage in found.passages} - listed) <= 1  # a tie at the end of the list
