"""Where sentences begin and end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusrag.kernel.sentences import sentences


def split(text: str, longest: int = 1000) -> list[str]:
    return [text[start:end] for start, end in sentences(text, longest)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. J. R. Smith paid $3.14 million to Acme Inc. of Ohio.", ["Dr. J. R. Smith paid $3.14 million to Acme Inc. of Ohio."]),
        (
            "It was sold to Acme Inc. The U.S. Army came at 5 p.m. They left.",
            ["It was sold to Acme Inc.", "The U.S. Army came at 5 p.m.", "They left."],
        ),
        (
            "See Fig. 3 and No. 5, e.g. there. The answer was no. Really.",
            ["See Fig. 3 and No. 5, e.g. there.", "The answer was no.", "Really."],
        ),
        (
            'He said "Stop!" and left. "Why?" she asked. (Nobody knew.) End.',
            ['He said "Stop!" and left.', '"Why?" she asked.', "(Nobody knew.)", "End."],
        ),
        ("I like plan B. It works.", ["I like plan B.", "It works."]),
        ("Version 2.0.1 is out at example.com. Get it.", ["Version 2.0.1 is out at example.com.", "Get it."]),
        ("Wait... what? And so on etc. And then.", ["Wait... what?", "And so on etc.", "And then."]),
        ("Known since 1066.[12] Next one.", ["Known since 1066.[12]", "Next one."]),
        ("It goes on\nover a line. Next.", ["It goes on\nover a line.", "Next."]),
        ("A paragraph\n\nanother one", ["A paragraph", "another one"]),
        ("# Title\nText here. More.", ["# Title", "Text here.", "More."]),
        (
            "Getting started\nInstall the package and run it once. Done.",
            ["Getting started", "Install the package and run it once.", "Done."],
        ),
        ("- first. with more\n- second\n2. Third one. Yes", ["- first. with more", "- second", "2. Third one.", "Yes"]),
        ("| a | b |\n| c. D | d |", ["| a | b |", "| c. D | d |"]),
        ("これは文です。次の文！終わり", ["これは文です。", "次の文！", "終わり"]),
        ("", []),
        (" \n\t\n ", []),
        ("...", ["..."]),
    ],
)
def test_sentences_are_found(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_what_has_no_end_is_cut_at_white_space_where_there_is_some() -> None:
    words = split("word " * 100, longest=60)
    assert all(len(piece) <= 60 and piece.startswith("word") and piece.endswith("word") for piece in words)
    assert " ".join(words) == ("word " * 100).strip()
    assert [len(piece) for piece in split("x" * 250, longest=100)] == [100, 100, 50]


@given(st.text(alphabet=st.sampled_from("aA1 .!?\n\t-#|*()[]\"'。étc"), max_size=200), st.integers(5, 50))
def test_spans_rise_hold_no_outer_white_space_and_leave_nothing_out(text: str, longest: int) -> None:
    position = 0
    for start, end in sentences(text, longest):
        assert position <= start < end <= len(text)
        assert end - start <= longest
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip()
        position = end
    assert not text[position:].strip()


@pytest.mark.parametrize("hostile", ["a. ", ".", "A.\n", "(", "- ", '."', "U.S.", "Mr. ", "1. ", "[1]", "x", "\n", " "])
def test_long_hostile_texts_take_linear_time(hostile: str) -> None:
    assert len(sentences(hostile * 100_000)) <= 100_000
