"""Who is computed next: questions before bulk work, bulk work in turns, nothing that was cancelled, in small batches."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from nexusrag.providers.embeddings.local import scheduler as scheduling
from nexusrag.providers.embeddings.local.scheduler import MOST_TOKENS, Job, Scheduler
from nexusrag.providers.embeddings.local.weights import Floats
from tests.providers.embeddings.stand_in import StandInModel


class Asked:
    """A job and its answer."""

    def __init__(self, texts: list[str], *, urgent: bool = False) -> None:
        self._answered = threading.Event()
        self._vectors: Floats | None = None
        self.job = Job(texts, urgent, self._done)

    def _done(self, vectors: Floats) -> None:
        self._vectors = vectors
        self._answered.set()

    def vectors(self) -> Floats:
        assert self._answered.wait(30)
        assert self._vectors is not None
        return self._vectors


def words(count: int, letter: str) -> str:
    """A text of `count` tokens, each with the value `len(letter)`."""
    return " ".join([letter] * count)


@pytest.fixture
def model() -> StandInModel:
    return StandInModel()


@pytest.fixture
def held(model: StandInModel) -> Iterator[Scheduler]:
    """A scheduler that is at a first batch until the model's gate opens: what is submitted meanwhile queues up."""
    made = Scheduler(model, lambda: None)
    made.start()
    model.gate.clear()
    made.submit(Asked(["first"]).job)
    assert model.entered.wait(30)
    yield made
    model.gate.set()
    made.stop()


def run(model: StandInModel, scheduler: Scheduler, asked: list[Asked]) -> list[list[list[int]]]:
    """Submit in this order while the model is held; the batches that follow the first."""
    for one in asked:
        scheduler.submit(one.job)
    model.gate.set()
    for one in asked:
        if not one.job.cancelled:
            one.vectors()
    return model.batches[1:]


def test_urgent_texts_go_before_bulk_that_came_first(model: StandInModel, held: Scheduler) -> None:
    bulk, question = Asked([words(128, "b")] * 6), Asked([words(5, "qq")], urgent=True)
    batches = run(model, held, [bulk, question])
    assert batches[0] == [[2] * 5]
    assert len(batches) == 4


def test_bulk_jobs_take_turns(model: StandInModel, held: Scheduler) -> None:
    batches = run(model, held, [Asked([words(128, letter)] * 4) for letter in ("a", "bb")])
    assert [batch[0][0] for batch in batches] == [1, 2, 1, 2]


def test_bulk_goes_on_under_a_flood_of_questions(model: StandInModel, held: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_LONGEST_STARVING_S", -1.0)
    questions = [Asked([words(128, "qq")] * 2, urgent=True) for _ in range(3)]
    batches = run(model, held, [Asked([words(128, "b")] * 2), *questions])
    assert [batch[0][0] for batch in batches] == [1, 2, 2, 2]


def test_a_cancelled_job_is_not_computed(model: StandInModel, held: Scheduler) -> None:
    dropped = Asked([words(9, "dddd")])
    dropped.job.cancelled = True
    assert run(model, held, [dropped, Asked(["kept"])]) == [[[4]]]


def test_a_batch_is_bounded_in_tokens_and_in_filling(model: StandInModel, held: Scheduler) -> None:
    lengths = [3, 250, 7, 100, 256, 12, 90, 256, 1, 64]
    asked = Asked([words(length, "x") for length in lengths])
    batches = run(model, held, [asked])
    for batch in batches:
        area = max(map(len, batch)) * len(batch)
        assert area <= MOST_TOKENS
        assert area <= 1.5 * sum(map(len, batch)) + 64
    np.testing.assert_array_equal(asked.vectors()[:, 0], lengths)


def test_short_questions_share_a_batch(model: StandInModel, held: Scheduler) -> None:
    assert len(run(model, held, [Asked([words(8, "q")], urgent=True) for _ in range(20)])) == 1


def test_each_thread_has_a_batch_of_its_own_and_all_of_them_stop(model: StandInModel) -> None:
    made = Scheduler(model, lambda: None, 3)
    made.start()
    model.gate.clear()
    asked = [Asked([words(256, letter), words(2, letter)]) for letter in ("a", "bb", "ccc", "dddd")]
    for one in asked:
        made.submit(one.job)
    for _ in range(3):  # all of them are at the gate
        assert model.at_the_gate.acquire(timeout=30)
    assert not model.at_the_gate.acquire(timeout=0.05)
    model.gate.set()
    assert [one.vectors()[:, :2].tolist() for one in asked] == [[[256, length], [2, length]] for length in (1, 2, 3, 4)]
    made.stop()
    assert not any(thread.is_alive() for thread in made._threads)


def test_memory_is_given_back_once_nothing_is_asked(model: StandInModel, held: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_IDLE_S", 0.01)
    run(model, held, [Asked(["x"])])
    assert model.released.wait(30)


def test_the_owner_learns_when_a_thread_ends_by_a_fault_and_can_stop_the_others(
    model: StandInModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    ended = threading.Event()
    made = Scheduler(model, ended.set, 2)
    made.start()
    made.submit(Job(["no callback"], False, None))  # type: ignore[arg-type]
    assert ended.wait(30)
    made.stop()
    assert not any(thread.is_alive() for thread in made._threads)
