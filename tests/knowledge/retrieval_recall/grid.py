"""A grid of tenants that have a share of all chunks, and people who see a share of their tenant's: what searches find of what is there.

Recall is of the 10 nearest, or of all that is visible where that is less, against a scan of every vector in numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from nexusrag.access.policies.facade import Caller, unbound
from nexusrag.infra.database import Database
from nexusrag.infra.resources import Resources
from nexusrag.kernel.principal import Principal
from nexusrag.knowledge.retrieval import repository, service
from nexusrag.knowledge.retrieval.service import Found, Where
from nexusrag.knowledge.retrieval.spaces import Spaces
from nexusrag.providers.embeddings.port import Embedder
from nexusrag.settings import Settings
from tests.knowledge.retrieval_recall.library import Grant, Item, Library, Shelf, StandIn, Vectors, bound, caller

TOP = 10
# Nearer than that, two copies of one text are the same to half-precision vectors.
TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    vector: Vectors


@dataclass(frozen=True, slots=True)
class Cell:
    """One tenant and one of its people. `places` are rows of `Grid.vectors`."""

    tenant_share: float
    visible_share: float
    shelf: Shelf
    who: Principal
    places: "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass
class Measured:
    """`method`: how vectors were found; `ratio`: p95 of the statement over that of the same one without the permission condition."""

    cell: Cell
    dense: float
    hybrid: float
    method: str
    p95_ms: float
    ratio: float


class Grid:
    """`vectors` of all chunks in half precision, `texts` to draw from, and how many chunks a document of a tenant has."""

    def __init__(self, library: Library, settings: Settings, shares: Sequence[float]) -> None:
        self.library = library
        self.cells: list[Cell] = []
        self._shares = shares
        self._resources = Resources()
        self._resources.put(Settings, settings)
        self._resources.put(Spaces, Spaces())
        self._resources.put(Embedder, StandIn(library.model, library.dimensions))
        self._vectors: list[Vectors] = []
        self._places: dict[tuple[str, int], int] = {}

    @property
    def database(self) -> Database:
        return self.library.database

    async def plant(self, share: float, vectors: Vectors, texts: Sequence[str], per_document: int) -> None:
        """A tenant with these chunks, and one person for each share of them: every so-manieth document, or the corpus for all."""
        shelf = await self.library.shelf(await self.library.tenant())
        documents = [range(start, min(start + per_document, len(vectors))) for start in range(0, len(vectors), per_document)]
        items, seen = [], {visible: [] for visible in self._shares}
        for number, chunks in enumerate(documents):
            step = {visible: round(1 / visible) for visible in self._shares}
            readers = [visible for visible in self._shares if visible < 1 and number % step[visible] == 0]
            grants = [Grant("user", _name(visible), "read") for visible in readers]
            items.append(
                Item(f"doc-{number}", [texts[place % len(texts)] for place in chunks], vectors[chunks.start : chunks.stop], {}, grants)
            )
            for visible in (*readers, 1):
                if visible in seen:
                    seen[visible].extend(chunks)
        offset = sum(map(len, self._vectors))
        self._vectors.append(vectors.astype(np.float16))
        for start in range(0, len(items), 200):
            await self.library.put(shelf, items[start : start + 200])
        await self._open(shelf)
        for visible, chunks in seen.items():
            if visible * len(vectors) >= 1:  # else there is nothing to see
                self.cells.append(Cell(share, visible, shelf, caller(shelf.tenant, _name(visible)), np.array(chunks) + offset))
        await self._remember(shelf, per_document, offset)

    async def _open(self, shelf: Shelf) -> None:
        async with self.database.work(shelf.tenant) as work:
            await work.raw.execute(
                "insert into corpus_permissions (tenant_id, id, corpus_id, principal_type, principal_id, permission) "
                "values ($1, 'all', $2, 'user', $3, 'read')", shelf.tenant, shelf.corpus, _name(1),
            )  # fmt: skip

    async def _remember(self, shelf: Shelf, per_document: int, offset: int) -> None:
        """Which row of the vectors each chunk is."""
        async with self.database.work(shelf.tenant) as work:
            rows = await work.raw.fetch(
                "select c.id, v.document_id, c.ord from chunks c join document_versions v on v.id = c.version_id where c.tenant_id = $1",
                shelf.tenant,
            )
        for row in rows:
            self._places[shelf.tenant, row["id"]] = offset + int(row["document_id"].removeprefix("doc-")) * per_document + row["ord"]

    async def measure(self, cell: Cell, questions: Sequence[Question], timed: int) -> Measured:
        held = np.concatenate(self._vectors)[cell.places].astype(np.float32)
        held /= np.linalg.norm(held, axis=1, keepdims=True)
        dense, hybrid, methods = [], [], set()
        for question in questions:
            vector = question.vector.astype(np.float16).astype(np.float32)
            cosines = held @ (vector / np.linalg.norm(vector))
            found = await self.search(cell, question, "dense")
            methods.add(found.method)
            dense.append(self._recall(cell, found, cosines))
        for question in questions[: max(1, len(questions) // 4)]:
            found, exact = await self.search(cell, question, "hybrid"), await self.search(cell, question, "hybrid", exact=True)
            due = {passage.chunk_id for passage in exact.passages}
            hybrid.append(len(due & {passage.chunk_id for passage in found.passages}) / len(due))
        with_rule, without = await self._times(cell, questions[:timed])
        return Measured(
            cell, float(np.mean(dense)), float(np.mean(hybrid)), "/".join(sorted(methods)), 1000 * with_rule, with_rule / without
        )

    def _recall(self, cell: Cell, found: Found, cosines: "np.ndarray[Any, Any]") -> float:
        due = min(TOP, len(cosines))
        least = np.partition(cosines, len(cosines) - due)[len(cosines) - due]
        by_place = dict(zip(cell.places.tolist(), cosines.tolist(), strict=True))
        nearest = [by_place.get(self._places[cell.shelf.tenant, passage.chunk_id]) for passage in found.passages]
        assert None not in nearest, "a passage that this person may not see"
        return sum(cosine is not None and cosine >= least - TIE for cosine in nearest) / due

    async def _times(self, cell: Cell, questions: Sequence[Question]) -> tuple[float, float]:
        """p95 in seconds of the hybrid statement with the permission condition and without, one after the other."""
        taken: dict[bool, list[float]] = {True: [], False: []}
        for question in (questions[0], *questions):
            for ruled in (True, False):
                began = perf_counter()
                await self.search(cell, question, "hybrid", who=None if ruled else unbound(cell.who))
                taken[ruled].append(perf_counter() - began)
        return tuple(float(np.percentile(taken[ruled][1:], 95)) for ruled in (True, False))  # type: ignore[return-value]  # two of them

    async def search(self, cell: Cell, question: Question, mode: str, *, exact: bool = False, who: Caller | None = None) -> Found:
        settings = self._resources.get(Settings)
        resources = self._resources
        if exact:
            resources = Resources()
            resources._held.update(self._resources._held)
            limits = settings.retrieval.model_copy(update={"retrieval_exact_limit": repository.WITHOUT_INDEX})
            resources.put(Settings, settings.model_copy(update={"retrieval": limits}))
        where = Where(corpus_key=cell.shelf.key, space_id=cell.shelf.space, filters={})
        async with self.database.work(cell.shelf.tenant, options=repository.options(settings)) as work:
            return await service.search(resources, work, who or bound(cell.who), where, question.text, question.vector, TOP, mode=mode)


def _name(visible: float) -> str:
    return f"usr_{visible:g}"
