"""Searches: filters stand inside the statement, limits hold, and the answer says how it was found."""

from typing import Any

import pytest

from tests.support.api import Api, Person, error_of

DOCUMENTS = {
    "red": {"colour": "red", "year": 2024, "draft": False},
    "green": {"colour": "green", "year": 2025, "draft": False},
    "blue": {"colour": "blue", "year": 2025, "draft": True, "it's": "50%_\\"},
    "bare": {},
}


@pytest.fixture
async def library(api: Api) -> tuple[Person, str]:
    editor = await api.person("editor")
    corpus = await editor.corpus()
    for name, metadata in DOCUMENTS.items():
        await editor.text(corpus, f"The {name} volume is about bridges.", document_id=name, metadata_json=metadata)
    return editor, corpus


async def test_filters_admit_what_has_the_value(library: tuple[Person, str]) -> None:
    editor, corpus = library
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({}, {"red", "green", "blue", "bare"}),
        ({"colour": "red"}, {"red"}),
        ({"colour": ["red", "blue"]}, {"red", "blue"}),
        ({"year": 2025}, {"green", "blue"}),
        ({"year": 2025, "draft": False}, {"green"}),
        ({"year": "2025"}, set()),
        ({"draft": 0}, set()),
        ({"colour": "re%"}, set()),
        ({"it's": "50%_\\"}, {"blue"}),
        ({"unknown": "x"}, set()),
        ({"colour": "red' or '1'='1"}, set()),
    ]
    for filters, expected in cases:
        found = {passage["document_id"] for passage in await editor.search(corpus, "what is about bridges?", filters=filters, top_k=10)}
        assert found == expected, filters


async def test_a_search_may_be_confined_to_documents(library: tuple[Person, str]) -> None:
    editor, corpus = library
    found = await editor.search(corpus, "bridges", document_ids=["green", "nope", "green"], top_k=10)
    assert [passage["document_id"] for passage in found] == ["green"]
    assert await editor.search(corpus, "bridges", document_ids=["green"], filters={"colour": "red"}) == []


async def test_passages_come_best_first_and_no_more_than_asked_for(library: tuple[Person, str]) -> None:
    editor, corpus = library
    for top_k in (1, 2, 50):
        passages = await editor.search(corpus, "the green volume", top_k=top_k)
        assert len(passages) == min(top_k, 4)
        assert passages[0]["document_id"] == "green"
        scores = [passage["score"] for passage in passages]
        assert scores == sorted(scores, reverse=True)
    best = passages[0]
    assert best["metadata"] == DOCUMENTS["green"]
    assert best["text"][best["start"] : best["end"]] == best["text"] == "The green volume is about bridges."
    assert best["scores"]["fused"] == best["score"]
    for stage in ("bm25", "cosine"):
        assert best["scores"][stage] > max(passage["scores"][stage] for passage in passages[1:]), stage
    answer = (await editor.post(f"/v1/corpora/{corpus}/search", json={"query": "bridges"})).json()["data"]
    assert (answer["complete"], answer["method"], len(answer["passages"])) == (True, "exact", 4)


async def test_the_corpus_says_how_many_passages_are_usual(api: Api) -> None:
    editor = await api.person("editor")
    corpus = await editor.corpus(provider_config_json={"retrieval": {"top_k_default": 2}})
    for number in range(4):
        await editor.text(corpus, f"Volume {number} about bridges.")
    assert len(await editor.search(corpus, "bridges")) == 2


async def test_an_empty_corpus_is_searched_without_harm(api: Api) -> None:
    editor = await api.person("editor")
    corpus = await editor.corpus()
    answer = (await editor.post(f"/v1/corpora/{corpus}/search", json={"query": "anything"})).json()["data"]
    assert answer == {"passages": [], "complete": True, "method": "empty"}


@pytest.mark.parametrize(
    "query",
    ["'", '"', "a & b | !c", "<-> :*", "%", "\\", "the of and", "日本語", "\u202e", "?" * 500, "select 1; --", "{language}", ":vector"],
)
async def test_no_wording_breaks_the_statement(library: tuple[Person, str], query: str) -> None:
    editor, corpus = library
    assert len(await editor.search(corpus, query, top_k=4)) == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"query": ""}, {"query": "  "}, {"query": "x" * 20_001}, {}, {"query": "x", "top_k": 0}, {"query": "x", "top_k": 51},
        {"query": "x", "top_k": "5"}, {"query": "x", "top_k": 1.0}, {"query": "x", "filters": {"a": {}}},
        {"query": "x", "filters": {"a": []}},
        {"query": "x", "filters": {"a": None}}, {"query": "x", "filters": {"a": list(range(51))}}, {"query": "x", "filters": []},
        {"query": "x", "filters": {str(number): 1 for number in range(21)}}, {"query": "x", "document_ids": []},
        {"query": "x", "document_ids": ["d"] * 101}, {"query": "x", "document_ids": [1]}, {"query": "x", "rerank": True},
    ],
)  # fmt: skip
async def test_a_faulty_search_is_refused(library: tuple[Person, str], fields: dict[str, Any]) -> None:
    editor, corpus = library
    assert error_of(await editor.post(f"/v1/corpora/{corpus}/search", json=fields)) == ("VALIDATION_ERROR", 422)
