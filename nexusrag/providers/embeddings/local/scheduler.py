"""Decides which texts the model computes next: waiting users first, then bulk work in turns, in batches that are soon over.

Each thread computes batches of its own, and decides by itself what comes next when it is its turn. What waits belongs to the thread
whose turn it is, vectors to the one that hands its own out; `submit`, `stop` and `Job.cancelled` are for everybody.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Protocol

import numpy as np

from nexusrag.providers.embeddings.local.weights import HIDDEN, Floats

# A batch of this size takes 35-50 ms, and a question waits for the first one that is over; larger ones are no faster.
MOST_TOKENS = 256
# Short texts beside long ones are filled up to their length, and the filling is computed too.
_MOST_FILLING = 1.5
_FILLING_FREE = 64
_LONGEST_STARVING_S = 1.0
_IDLE_S = 3.0


class Model(Protocol):
    """What computes: `MiniLM`, or a stand-in for it. `embed` is called by several threads at once."""

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]: ...

    def embed(self, batch: Sequence[Sequence[int]]) -> Floats: ...

    def release(self) -> None: ...


@dataclass(eq=False)
class Job:
    """Texts of one request. `done` is called with the vectors, shape (len(texts), 384), from the computing thread."""

    texts: list[str]
    urgent: bool
    done: Callable[[Floats], object]
    cancelled: bool = False
    _tokens: list[list[int]] = field(default_factory=list)
    _waiting: deque[int] = field(default_factory=deque)
    _vectors: Floats = field(default_factory=lambda: np.empty((0, HIDDEN), np.float32))
    _missing: int = 0

    def prepare(self, model: Model) -> None:
        """Tokenise at the job's first turn, not before: until then it is as small as its texts."""
        if not self._tokens:
            self._tokens = model.tokenise(self.texts)
            self._waiting = deque(sorted(range(len(self._tokens)), key=lambda row: len(self._tokens[row])))
            self._vectors = np.empty((len(self._tokens), HIDDEN), np.float32)
            self._missing = len(self._tokens)

    def move_into(self, batch: "Batch") -> bool:
        """Put waiting texts into `batch`, shortest first, while they fit. True when none is left waiting."""
        while self._waiting and batch.takes(len(self._tokens[self._waiting[0]])):
            row = self._waiting.popleft()
            batch.add(self, row, self._tokens[row])
        return not self._waiting

    def receive(self, row: int, vector: Floats) -> None:
        """Keep a text's vector, and answer when it was the last one."""
        self._vectors[row] = vector
        self._missing -= 1
        if not self._missing and not self.cancelled:
            self.done(self._vectors)


class Batch:
    """Texts of one or more jobs that are computed together."""

    def __init__(self) -> None:
        self._rows: list[tuple[Job, int]] = []
        self._tokens: list[list[int]] = []
        self._longest = 0
        self._total = 0

    def takes(self, length: int) -> bool:
        """Whether a text of `length` tokens still fits. The first one always does."""
        if not self._rows:
            return True
        area = max(self._longest, length) * (len(self._rows) + 1)
        return area <= min(MOST_TOKENS, _MOST_FILLING * (self._total + length) + _FILLING_FREE)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, job: Job, row: int, tokens: list[int]) -> None:
        self._rows.append((job, row))
        self._tokens.append(tokens)
        self._longest = max(self._longest, len(tokens))
        self._total += len(tokens)

    def compute(self, model: Model) -> Floats:
        """The vectors of all texts; `hand_out` is yet to come."""
        return model.embed(self._tokens)

    def hand_out(self, vectors: Floats) -> None:
        """Give each text its vector."""
        for (job, row), vector in zip(self._rows, vectors, strict=True):
            job.receive(row, vector)


class Scheduler:
    """The computing threads. An exception in one is a fault of this program: it ends that thread, and `ended` is called."""

    def __init__(self, model: Model, ended: Callable[[], object], threads: int = 1) -> None:
        self._model = model
        self._ended = ended
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._urgent: deque[Job] = deque()
        self._bulk: deque[Job] = deque()
        self._bulk_since = monotonic()
        self._turn, self._handing_out = threading.Lock(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, name=f"compute {number}") for number in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue `job`. Any thread may call this; it returns at once."""
        self._inbox.put(job)

    def stop(self) -> None:
        """Drop what waits and return when the batches under way are done."""
        self._inbox.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                vectors = batch.compute(self._model)
                with self._handing_out:
                    batch.hand_out(vectors)
        finally:
            self._ended()

    def _next(self) -> Batch | None:
        """The next batch, as soon as there is one; None when told to stop."""
        with self._turn:
            while self._receive():
                batch = self._fill(self._next_queue())
                if len(batch):
                    return batch
            self._inbox.put(None)  # for the others
            return None

    def _receive(self) -> bool:
        """Take in new jobs; with nothing to do, wait for one. False when told to stop."""
        try:
            while True:
                job = self._inbox.get_nowait() if self._urgent or self._bulk else self._wait()
                if job is None:
                    return False
                (self._urgent if job.urgent else self._bulk).append(job)
        except Empty:
            return True

    def _wait(self) -> Job | None:
        try:
            return self._inbox.get(timeout=_IDLE_S)
        except Empty:
            self._model.release()
            return self._inbox.get()

    def _next_queue(self) -> deque[Job]:
        """Urgent work, unless it has kept bulk work waiting for so long that ingestion would come to a stop."""
        now = monotonic()
        if self._bulk and (not self._urgent or now - self._bulk_since > _LONGEST_STARVING_S):
            self._bulk_since = now
            return self._bulk
        if not self._bulk:
            self._bulk_since = now
        return self._urgent

    def _fill(self, queue: deque[Job]) -> Batch:
        """The next batch from `queue`. A job that took part and has more to do goes to its end."""
        batch = Batch()
        while queue:
            job = queue.popleft()
            if job.cancelled:
                continue
            job.prepare(self._model)
            before = len(batch)
            if not job.move_into(batch):
                queue.append(job) if len(batch) > before else queue.appendleft(job)
                break
        return batch
