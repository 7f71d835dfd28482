"""Which questions lean on the conversation before them."""

import pytest

from nexusrag.inference.gateway.service import leans_on_history


@pytest.mark.parametrize(
    "question",
    ["And when?", "Why?", "Who built it and in which year?", "What do they cost in a leap year?", "How many people live there in winter?"],
)
def test_a_question_that_points_back_leans(question: str) -> None:
    assert leans_on_history(question)


@pytest.mark.parametrize(
    "question",
    ["How many days of holiday are there?", "Is there a limit on parental leave?", "Which rules there are on travel must be known?",
     "What are the release gates for Agent 2.0?"],
)  # fmt: skip
def test_a_question_that_stands_alone_does_not(question: str) -> None:
    assert not leans_on_history(question)
