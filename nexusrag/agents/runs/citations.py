"""Citations, checked mechanically: the quoted words stand in the passage, and the passage was retrieved for this caller."""

import re
from collections.abc import Sequence
from typing import Any

from nexusrag.kernel.sentences import sentences
from nexusrag.knowledge.retrieval.facade import Passage

_MARKER = re.compile(r"\[(\d{1,3})\]")
_WORD = re.compile(r"\w+")
_MAX_QUOTE = 400


def verified(answer: str, passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """The citations of `answer`, best score first, one per passage. `passages` are numbered from 1 as in the prompt.

    A marker counts when its number is one of the passages and some sentence of the passage shares words with the claim; the
    quote is that sentence, letter for letter, with its place in the document.
    """
    found: dict[int, dict[str, Any]] = {}
    for number, claim in _claims(answer):
        if not 1 <= number <= len(passages) or number in found:
            continue
        quote = _support(claim, passages[number - 1])
        if quote is not None:
            found[number] = _citation(number, passages[number - 1], *quote)
    return sorted(found.values(), key=lambda citation: (-citation["score"], citation["metadata"]["marker"]))


def _claims(answer: str) -> list[tuple[int, str]]:
    """Each marker with the words that it stands behind: back to the previous sentence's end or marker."""
    claims: list[tuple[int, str]] = []
    start = 0
    for match in _MARKER.finditer(answer):
        before = _MARKER.sub(" ", answer[start : match.start()]).strip(" .\n")
        if before:
            claim = before
            start = match.end()
        claims.append((int(match[1]), claim if before else (claims[-1][1] if claims else "")))
    return claims


def _support(claim: str, passage: Passage) -> tuple[int, int] | None:
    """Span of the sentence of the passage that shares most words with the claim; None when none shares any."""
    wanted = {word.casefold() for word in _WORD.findall(claim)}
    best: tuple[float, int, int] | None = None
    for start, end in sentences(passage.text):
        words = [word.casefold() for word in _WORD.findall(passage.text[start:end])]
        if not words:
            continue
        shared = sum(len(word) for word in set(words) & wanted)
        score = shared / (1 + sum(len(word) for word in set(words)) * 0.1)
        if shared and (best is None or score > best[0]):
            best = (score, start, end)
    return None if best is None else (best[1], best[2])


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
