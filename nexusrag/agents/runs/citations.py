"""Citations, checked mechanically: the quoted words stand in the passage, and the passage was retrieved for this caller."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, Self

from nexusrag.kernel.sentences import sentences
from nexusrag.knowledge.retrieval.facade import Passage

_MARKER = re.compile(r"\[(\d{1,3})\]")
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_STEM = 6
_COMMON = frozenset(
    word
    for line in (
        "the and for are was were been has have had not but with from that this these those its they them their there which who",
        "whom what when where why how will would can could may might must shall should also than then into onto over under about",
        "after before between through during such each any all some more most other only own same very does did done being because",
        "while both few per via",
    )
    for word in line.split()
)
_MAX_QUOTE = 400


def verified(answer: str, passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """The citations of `answer`, best score first, one per passage. `passages` are numbered from 1 as in the prompt.

    A marker counts when its number is one of the passages and the passage supports the claim before it; the quote is the
    sentence of the passage that comes nearest to the claim, letter for letter, with its place in the document.
    """
    found: dict[int, dict[str, Any]] = {}
    holds = cache(lambda number: _Held.of(passages[number - 1].text))  # however often an answer points to a passage
    for number, claim in _claims(answer):
        if not 1 <= number <= len(passages) or number in found:
            continue
        quote = _support(claim, holds(number))
        if quote is not None:
            found[number] = _citation(number, passages[number - 1], *quote)
    return sorted(found.values(), key=lambda citation: (-citation["score"], citation["metadata"]["marker"]))


def _claims(answer: str) -> list[tuple[int, str]]:
    """Each marker with the words that it stands behind: back to the previous sentence's end or marker."""
    claims: list[tuple[int, str]] = []
    start = 0
    for match in _MARKER.finditer(answer):
        before = answer[start : match.start()].strip(" .\n")
        start = match.end()
        claims.append((int(match[1]), before or (claims[-1][1] if claims else "")))
    return claims


class _Held(NamedTuple):
    """A passage's text with its words and numbers."""

    text: str
    words: set[str]
    numbers: set[str]

    @classmethod
    def of(cls, text: str) -> Self:
        return cls(text, _content(text), _numbers(text))


def _support(claim: str, held: _Held) -> tuple[int, int] | None:
    """Span of the sentence of the passage that holds most of the claim; None when the passage does not support it.

    The passage must hold at least half of the claim's content words, by their stems' beginnings, and every number in it.
    """
    wanted = _content(claim)
    if not wanted or len(wanted & held.words) * 2 < len(wanted) or not _numbers(claim) <= held.numbers:
        return None
    spans = [(len(wanted & _content(held.text[start:end])), -(end - start), start, end) for start, end in sentences(held.text)]
    best = max(spans, default=(0, 0, 0, 0))
    return (best[2], best[3]) if best[0] else None


def _content(text: str) -> set[str]:
    """Words that carry meaning, cut to their first letters so that endings do not matter."""
    return {
        word[:_STEM]
        for word in (found.casefold() for found in _WORD.findall(text))
        if word not in _COMMON and (len(word) > 2 or word.isdigit())
    }


def _numbers(text: str) -> set[str]:
    return {number.replace(",", "") for number in _NUMBER.findall(text)}


def _citation(number: int, passage: Passage, start: int, end: int) -> dict[str, Any]:
    end = min(end, start + _MAX_QUOTE)
    return {
        "source": passage.filename,
        "score": passage.score,
        "metadata": {
            **passage.metadata,
            "marker": number,
            "document_id": passage.document_id,
            "document_version": passage.version,
            "chunk_id": passage.chunk_id,
            "chunk_hash": passage.hash,
            "page": passage.page,
            "heading": list(passage.heading),
            "start": passage.start + start,
            "end": passage.start + end,
            "quote": passage.text[start:end],
        },
    }
