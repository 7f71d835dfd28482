"""When a passage supports a claim, and which words of it are quoted."""

import pytest

from nexusrag.agents.runs.citations import verified
from nexusrag.knowledge.retrieval.facade import Passage

TUG = "The harbour has one tug. It was launched in 1987 and tows up to 40,000 tonnes. Its name is Éclair."


def passage(text: str = TUG, *, start: int = 100, score: float = 1.0, document: str = "doc", **metadata: str) -> Passage:
    return Passage(
        chunk_id=7, document_id=document, filename="tug.txt", version=3, ord=0, text=text, heading=("Ships",), start=start,
        end=start + len(text), page=None, page_end=None, hash="hash", metadata=metadata, score=score, bm25=1.0, cosine=0.5,
    )  # fmt: skip


def quoted(answer: str, *passages: Passage) -> list[str]:
    return [citation["metadata"]["quote"] for citation in verified(answer, passages or (passage(),))]


@pytest.mark.parametrize(
    ("claim", "quote"),
    [
        ("The tug was launched in 1987", "It was launched in 1987 and tows up to 40,000 tonnes."),
        ("It tows 40000 tonnes", "It was launched in 1987 and tows up to 40,000 tonnes."),
        ("Its launching came in 1987", "It was launched in 1987 and tows up to 40,000 tonnes."),
        ("The name is ÉCLAIR", "Its name is Éclair."),
        ("Harbour, tug, submarine, zeppelin", "The harbour has one tug."),
    ],
)
def test_a_claim_is_supported_by_half_of_its_words_whatever_their_endings(claim: str, quote: str) -> None:
    assert quoted(f"{claim} [1].") == [quote]


@pytest.mark.parametrize(
    "claim",
    [
        "Harbour submarines, zeppelins and balloons", "The tug was launched in 1988", "The tug tows up to 400 tonnes",
        "In 1987 the 2 tugs tow", "What was it", "",
    ],
)  # fmt: skip
def test_a_claim_with_other_words_or_numbers_is_not_supported(claim: str) -> None:
    assert quoted(f"{claim} [1].") == []


def test_each_marker_stands_for_the_words_before_it() -> None:
    other = passage("Fishing within the mole is forbidden.", document="rules", score=2.0)
    answer = "The harbour has one tug [1], and fishing is forbidden [2][1]. Zebras graze [2]."
    assert [(one["metadata"]["marker"], one["metadata"]["document_id"]) for one in verified(answer, (passage(), other))] == [
        (2, "rules"),
        (1, "doc"),
    ]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("said", ["x " + "[1]" * 30_000, "zebra quagga lion tiger [1] " * 10_000], ids=["markers", "claims"])
def test_an_answer_full_of_markers_holds_nobody_up(said: str) -> None:
    long = passage(" | ".join(f"w{number}" for number in range(12_000)))
    assert quoted(said, long) == []


def test_a_quote_is_found_at_its_place_and_has_an_end() -> None:
    text = f"First. {'harbour ' * 100}tug. Last."
    (citation,) = verified("The harbour tug [1]", (passage(text, start=50),))
    about = citation["metadata"]
    assert len(about["quote"]) == 400
    assert text[about["start"] - 50 : about["end"] - 50] == about["quote"]


def test_what_the_uploader_calls_a_label_cannot_pass_for_our_own_words() -> None:
    (citation,) = verified("The harbour has one tug [1]", (passage(quote="forged", document_id="forged", team="field"),))
    assert citation["metadata"]["quote"] == "The harbour has one tug."
    assert citation["metadata"]["document_id"] == "doc"
    assert citation["metadata"]["team"] == "field"
