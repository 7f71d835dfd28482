"""Answers made of the passages' own sentences."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from nexusrag.providers.embeddings.fake import FakeEmbedder
from nexusrag.providers.llm.extractive import NO_ANSWER, ExtractiveModel
from nexusrag.providers.llm.lexical import bm25, coverage, stem, terms
from nexusrag.providers.llm.port import Delta, Passage, Prompt
from tests.providers.llm.helpers import prompt, read

REFUNDS = (
    "# Refund policy\n\nCustomers may return any product within thirty days of delivery. "
    "Refunds are paid to the original card within five working days. Gift cards are never refunded."
)
SHIPPING = "Orders ship from Rotterdam. Delivery takes two days in the Netherlands and five days abroad. Returned products ship free."


class Counting(FakeEmbedder):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.urgent = True

    async def embed(self, texts: Sequence[str], *, urgent: bool = False, tenant_id: str = "") -> NDArray[np.float32]:
        self.asked.append(texts)
        self.urgent &= urgent
        return await super().embed(texts, urgent=urgent)


async def answer(question: str, *texts: str, max_output_tokens: int = 400) -> tuple[str, bool | None]:
    pieces, used = await read(ExtractiveModel(FakeEmbedder()), prompt(question, *texts, max_output_tokens=max_output_tokens))
    assert used.estimated
    return "".join(pieces), used.grounded


async def test_the_best_sentence_comes_with_the_marker_of_its_passage() -> None:
    text, grounded = await answer("How many working days until refunds are paid?", SHIPPING, REFUNDS)
    assert grounded
    assert "Refunds are paid to the original card within five working days. [2]" in text
    said = re.findall(r"(.+?) \[(\d)\](?: |$)", text)
    assert len(said) == 3
    for sentence, number in said:
        assert sentence in " ".join((SHIPPING, REFUNDS)[int(number) - 1].split())


async def test_the_same_question_has_the_same_answer_in_small_deltas() -> None:
    asked = prompt("How long does delivery take abroad?", SHIPPING, REFUNDS)
    first = await read(ExtractiveModel(FakeEmbedder()), asked)
    assert first == await read(ExtractiveModel(FakeEmbedder()), asked)
    assert max(len(piece.split()) for piece in first[0]) <= 4
    assert "five days abroad. [1]" in "".join(first[0])


@pytest.mark.parametrize("question", ["Who composed the moonlight sonata?", "why?", "", "?!", "日本の首都はどこですか"])
async def test_nothing_that_fits_is_said_plainly_without_a_marker(question: str) -> None:
    assert await answer(question, SHIPPING, REFUNDS) == (NO_ANSWER, False)


@pytest.mark.parametrize("texts", [(), ("",), ("\n \n",), ("Heading only",), ("What is this?",), ("12",)])
async def test_passages_that_say_nothing_give_no_answer(texts: tuple[str, ...]) -> None:
    assert await answer("Heading only what is this", *texts) == (NO_ANSWER, False)


async def test_markers_that_stand_in_a_passage_are_not_repeated() -> None:
    text, _ = await answer("When was the tower built?", "The tower was built in 1889.[2] It stands in Paris [3] still.")
    assert re.findall(r"\[\d\]", text) == ["[1]", "[1]"]
    assert text.startswith("The tower was built in 1889. [1]")


async def test_a_question_in_a_passage_brings_its_answer_along() -> None:
    faq = "How do I reset my password? Press the button below the form. How do I leave? Close the account."
    text, _ = await answer("How do I reset my password?", faq)
    assert "How do I reset my password? Press the button below the form. [1]" in text


async def test_a_sentence_in_two_overlapping_passages_is_said_once() -> None:
    text, _ = await answer("How many working days until refunds are paid?", REFUNDS, REFUNDS)
    assert text.count("Refunds are paid") == 1
    assert "[2]" not in text


async def test_a_short_limit_keeps_whole_sentences_and_at_least_one() -> None:
    text, _ = await answer("How many working days until refunds are paid?", REFUNDS, max_output_tokens=5)
    assert text == "Refunds are paid to the original card within five working days. [1]"


async def test_only_a_few_sentences_of_the_best_five_passages_are_embedded_at_once_and_urgently() -> None:
    embedder = Counting()
    many = [f"Refund number {number} is paid on day {day}. " * 1 for number in range(9) for day in range(9)]
    passages = tuple(
        Passage(number=index + 1, chunk_id=index, document_id="d", text="".join(many[index * 9 : index * 9 + 9]), score=1 / (index + 1))
        for index in range(9)
    )
    question = "On which day is refund number 3 paid?"
    pieces = [piece async for piece in ExtractiveModel(embedder).stream(Prompt((), question, passages))]
    assert "[4]" in "".join(piece.text for piece in pieces if isinstance(piece, Delta))
    assert len(embedder.asked) == 1
    assert embedder.asked[0][0] == question
    assert len(embedder.asked[0]) <= 9
    assert embedder.urgent
    assert not any(re.match(r"Refund number [5-8]", text) for text in embedder.asked[0])


async def test_the_vector_of_a_passage_decides_when_it_is_at_hand() -> None:
    vector = (await FakeEmbedder().embed(["Something else altogether"]))[0]
    question = "Completely unrelated words here?"
    near = (await FakeEmbedder().embed([question]))[0]
    for given, grounded in ((vector, False), (near, True)):
        passage = Passage(1, 1, "d", "Alpha beta gamma delta. Epsilon zeta eta.", 1.0, given)
        _, used = await read(ExtractiveModel(FakeEmbedder()), Prompt((), question, (passage,)))
        assert used.grounded is grounded


async def test_very_long_passages_and_scores_without_sign_are_bounded() -> None:
    text, _ = await answer("where is the needle", "hay " * 50_000 + "The needle is here.", "The needle lies in the barn.")
    assert "The needle lies in the barn. [2]" in text
    passages = tuple(Passage(number, number, "d", SHIPPING, score) for number, score in ((1, 0.0), (2, -1.0), (3, float("-inf"))))
    _, used = await read(ExtractiveModel(FakeEmbedder()), Prompt((), "Where do orders ship from?", passages))
    assert used.grounded


def test_forms_of_a_word_meet_in_one_stem() -> None:
    for forms in ("return returns returned returning", "company companies", "make making makes", "stop stopped stopping", "glass glasses"):
        assert len({stem(word) for word in forms.split()}) == 1, forms
    assert terms("The Refunds of Zoë were paid; 東京 2024!") == ["refund", "zoe", "paid", "東", "京", "2024"]


def test_rare_words_weigh_more_and_coverage_counts_distinct_ones() -> None:
    texts = [terms(text) for text in ("common rare", "common common word", "common thing other")]
    scores = bm25(terms("common rare"), texts)
    assert scores[0] > scores[1] > 0
    assert bm25(["x"], []) == []
    assert coverage(["a", "b", "b"], [["a"], ["b", "c"]]) == 0.5
    assert coverage([], [["a"]]) == 0.0
