"""Test collections and measures of retrieval: nDCG@10 and recall@100 over documents, containment of answers."""

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexusrag.knowledge.retrieval.service import Passage

DIRECTORY = Path(os.environ.get("NEXUSRAG_IR_DIR") or Path(__file__).parents[2].parent / "shared" / "ir")


@dataclass(frozen=True, slots=True)
class Query:
    """`relevant` holds ids of documents, each with its grade; `answers` the strings of which one answers the question."""

    id: str
    text: str
    relevant: dict[str, int]
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection in BEIR's layout. `documents` maps the collection's ids to one text each, the title on top."""

    name: str
    documents: dict[str, str]
    queries: tuple[Query, ...]


def load(name: str) -> Collection:
    """The collection in the folder `name`, with the queries that have a relevant document."""
    folder = DIRECTORY / name
    relevant: dict[str, dict[str, int]] = {}
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if int(row["score"]) > 0:
                relevant.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    documents = {line["_id"]: f"{line['title']}\n\n{line['text']}".strip() for line in _lines(folder / "corpus.jsonl")}
    queries = tuple(
        Query(line["_id"], line["text"], relevant[line["_id"]], tuple(line.get("metadata", {}).get("answers", ())))
        for line in _lines(folder / "queries.jsonl")
        if line["_id"] in relevant
    )
    return Collection(name, documents, queries)


def unanswerable(name: str) -> list[str]:
    """Questions that look as if the collection answered them, and it does not."""
    path = DIRECTORY / name / "unanswerable.jsonl"
    return [line["text"] for line in _lines(path)] if path.exists() else []


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def documents_of(passages: Sequence[Passage]) -> list[str]:
    """Documents in the order of their best passage."""
    return list(dict.fromkeys(passage.document_id for passage in passages))


def ndcg(ranking: Sequence[str], relevant: dict[str, int], depth: int = 10) -> float:
    """Normalised discounted cumulative gain (linear gain, as trec_eval computes it)."""
    gained = sum(relevant.get(document, 0) / math.log2(place + 2) for place, document in enumerate(ranking[:depth]))
    best = sum(grade / math.log2(place + 2) for place, grade in enumerate(sorted(relevant.values(), reverse=True)[:depth]))
    return gained / best


def recall(ranking: Sequence[str], relevant: dict[str, int], depth: int = 100) -> float:
    """Share of the relevant documents among the first `depth`."""
    return len(relevant.keys() & set(ranking[:depth])) / len(relevant)


def mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held)


def contains(answer: str, strings: Iterable[str]) -> bool:
    """Whether one of `strings` stands in `answer`, its markers like [1] left out; case and white space do not matter."""
    said = _plain(re.sub(r"\s*\[\d+\]", "", answer))
    return any(_plain(string) in said for string in strings)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
