"""Hybrid search as one would write it down: every chunk scored in a loop, no index, no SQL."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.knowledge.retrieval_recall.library import Item, Vectors

K1, B = 1.2, 0.75

Position = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Scored:
    """A chunk by document and place in it."""

    at: Position
    bm25: float
    cosine: float
    score: float


def search(
    items: Sequence[Item], visible: Callable[[Item], bool], words: Sequence[str], vector: Vectors, candidates: int
) -> tuple[list[Scored], set[Position], set[Position]]:
    """All candidates, best first, with the lexical and the dense list. `words` are the question's, of which none is stemmed or stopped.

    Statistics cover all of `items`; only chunks of `visible` ones are candidates.
    """
    chunks = [((item.id, ord), text.split(), item) for item in items for ord, text in enumerate(item.texts)]
    lexical = _bm25([text for _, text, _ in chunks], words)
    rounded = vector.astype(np.float16).astype(np.float64)
    scores: dict[Position, tuple[float, float]] = {}
    for (at, _, item), bm25 in zip(chunks, lexical, strict=True):
        if visible(item):
            held = item.vectors[at[1]].astype(np.float16).astype(np.float64)
            scores[at] = (bm25, float(held @ rounded / (np.linalg.norm(held) * np.linalg.norm(rounded))))
    by_words = sorted((at for at in scores if scores[at][0] > 0), key=lambda at: -scores[at][0])[:candidates]
    by_meaning = sorted(scores, key=lambda at: -scores[at][1])[:candidates]
    listed = set(by_words)
    pairs = {at: (scores[at][0] if at in listed else 0.0, scores[at][1]) for at in {*by_words, *by_meaning}}
    from_words = _spread([pair[0] for pair in pairs.values()])
    from_meaning = _spread([pair[1] for pair in pairs.values()])
    fused = [
        Scored(at, bm25, cosine, 0.5 * left + 0.5 * right)
        for (at, (bm25, cosine)), left, right in zip(pairs.items(), from_words, from_meaning, strict=True)
    ]
    return sorted(fused, key=lambda one: -one.score), set(by_words), set(by_meaning)


def _bm25(chunks: Sequence[Sequence[str]], words: Sequence[str]) -> list[float]:
    average = sum(map(len, chunks)) / max(len(chunks), 1)
    total = [0.0] * len(chunks)
    for word in words:  # a word asked twice counts twice
        holders = sum(word in chunk for chunk in chunks)
        weight = math.log(1 + (len(chunks) - holders + 0.5) / (holders + 0.5))
        for place, chunk in enumerate(chunks):
            count = chunk.count(word)
            total[place] += weight * count * (K1 + 1) / (count + K1 * (1 - B + B * len(chunk) / average))
    return total


def _spread(values: Sequence[float]) -> list[float]:
    """Min-max normalised; where all are equal, each counts in full if it is above zero."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if high - low > 1e-9:
        return [(value - low) / (high - low) for value in values]
    return [1.0 if value > 0 else 0.0 for value in values]
